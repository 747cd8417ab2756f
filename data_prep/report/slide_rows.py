"""A slide's row of the report: its record, what its counts say, and whether the sources of its scale agree."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_prep.build.state import SlideState
from data_prep.report.thumbnail import Thumbnail, ThumbnailSize, draw_thumbnail
from data_prep.slide.curation import SCALE_TOLERANCE
from stalign_pl.errors import ShardError
from stalign_pl.shard_format import INDEX_COLUMN, SlideRecord

BLOCK_SPOTS = 1_000
"""Spots whose counts are summed at once: a few hundred MB of a dense slide at most."""


@dataclass(frozen=True)
class Claim:
    """What something else than the lattice says of the scale. `off`: its share above (or below, < 0) the lattice's."""

    by: str
    um_per_px: float
    off: float

    @property
    def disagrees(self) -> bool:
        """Whether it is off the lattice's own answer by more than curation allows by default."""
        return abs(self.off) > SCALE_TOLERANCE


@dataclass(frozen=True)
class SlideRow:
    """One slide of the report.

    Attributes:
        spot_counts: int64 [N], counts of each spot; empty where the files cannot be read.
        spot_genes: int64 [N], genes of each spot; empty where the files cannot be read.
        state: of the build, None where it left none.
        thumbnail: None where the h5ad cannot be read.
        problem: what cannot be read, else ''.
    """

    record: SlideRecord
    spot_counts: np.ndarray
    spot_genes: np.ndarray
    claims: tuple[Claim, ...]
    state: SlideState | None
    thumbnail: Thumbnail | None
    problem: str

    @property
    def median_counts(self) -> float | None:
        return float(np.median(self.spot_counts)) if len(self.spot_counts) else None

    @property
    def median_genes(self) -> float | None:
        return float(np.median(self.spot_genes)) if len(self.spot_genes) else None

    @property
    def bytes(self) -> int:
        """Bytes of the slide's files: by the state file, else by the record."""
        if self.state is not None and self.state.bytes:
            return self.state.bytes
        return sum(described["bytes"] for described in self.record.files.values())

    @property
    def scale_disagrees(self) -> bool:
        return any(claim.disagrees for claim in self.claims)


def read_slide_row(folder: Path, record: SlideRecord, state: SlideState | None, size: ThumbnailSize) -> SlideRow:
    """Read a slide's counts and draw its thumbnail. A file that cannot be read is the row's `problem`."""
    problems = []
    counts = genes = np.empty(0, np.int64)
    thumbnail = None
    try:
        counts, genes = sum_spots(folder, record)
    except ShardError as error:
        problems.append(str(error))
    try:
        thumbnail = draw_thumbnail(folder / record.h5ad, record, size)
    except ShardError as error:
        problems.append(str(error))
    return SlideRow(record, counts, genes, list_claims(record), state, thumbnail, "; ".join(problems))


def list_claims(record: SlideRecord) -> tuple[Claim, ...]:
    """List the claims of a slide's scale, by name."""
    return tuple(
        Claim(by, value, value / record.um_per_px - 1) for by, value in sorted(record.um_per_px_claims.items())
    )


def sum_spots(folder: Path, record: SlideRecord) -> tuple[np.ndarray, np.ndarray]:
    """Sum int64 [N] counts and int64 [N] genes of every spot, from the memory-mapped arrays.

    Raises:
        ShardError: an array is missing, cut off or not of this slide.
    """
    pairs, index = (_load_array(folder / name) for name in (record.counts, record.index))
    starts, stops = (index[:, INDEX_COLUMN[name]] for name in ("counts_start", "counts_stop"))
    if len(index) != record.spots or (len(stops) and stops[-1] != pairs.shape[1]):
        raise ShardError(f"{folder / record.index} is not the index of {record.counts} and {record.spots} spots")
    totals = np.zeros(len(index), np.int64)
    for first in range(0, len(index), BLOCK_SPOTS):
        block = slice(first, min(first + BLOCK_SPOTS, len(index)))
        low, high = int(starts[block][0]), int(stops[block][-1])
        running = np.concatenate([[0], np.cumsum(pairs[1, low:high], dtype=np.int64)])
        totals[block] = running[stops[block] - low] - running[starts[block] - low]
    return totals, np.asarray(stops - starts)


def _load_array(path: Path) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ShardError(f"{path} cannot be read as an array: {error}") from error
