"""Rows of a plan -> a SpotBatch: bytes read in runs, images decoded by a thread pool, niches gathered by reference."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch

from stalign_pl.data.batch import CachedFeatures, CountPairs, SpotBatch
from stalign_pl.data.buffers import BatchBuffers
from stalign_pl.data.damage import Damaged, DamagedSample
from stalign_pl.data.decoding import decode
from stalign_pl.data.niche import WHOLE, NicheConfig
from stalign_pl.data.shards import SlideShard, TarBytes
from stalign_pl.data.small_members import small_members
from stalign_pl.shard_format import INDEX_COLUMN, MEMBERS

if TYPE_CHECKING:
    from stalign_pl.data.feature_cache import FeatureRows

Draws = Callable[[int, np.ndarray, np.ndarray], np.ndarray]
"""(epoch, slide [B], spot [B]) -> float32 [B, n], the random numbers of each row."""

DECODED_TOGETHER = 32
"""Rows a decoding job: handing a job over costs 0.2 ms, the decoding of half a pair of 224 px (measured)."""


def no_draws(epoch: int, slide: np.ndarray, spot: np.ndarray) -> np.ndarray:
    return np.zeros((len(slide), 0), np.float32)


@dataclass
class _Row:
    """One row on its way into a batch: its bytes, then what they say."""

    at: int
    slide: SlideShard
    spot: int
    sample: dict[str, memoryview]
    members: list[int] = field(default_factory=list)
    weights: np.ndarray | None = None
    excluded: np.ndarray | None = None
    box: Sequence[float] = (0, 0, 1, 1)

    def damaged(self, error: DamagedSample) -> Damaged:
        record = self.slide.record
        return Damaged(record.number, record.name, self.spot, str(self.slide.tar_of(self.spot)), str(error))


class BatchReader:
    """Reads rows of a plan from a shard set.

    Args:
        slides: slide number -> slide, all that a plan may name.
        niche: which neighbours make the niche.
        draws: the rows' random numbers.
        threads: decoding threads.
        verify: compare every sample's bytes with the checksum of the index.
        pin: pictures in pinned memory, for transfer to a GPU.
        features: read in place of what their streams look at. A picture that nothing looks at is neither read nor
            decoded, and without it a sample has no checksum: it was verified when its features were made.
    """

    def __init__(
        self,
        slides: dict[int, SlideShard],
        niche: NicheConfig,
        draws: Draws = no_draws,
        threads: int = 2,
        verify: bool = True,
        pin: bool = False,
        features: FeatureRows | None = None,
    ) -> None:
        self.slides, self.niche, self.draws = slides, niche, draws
        self.features, cached = features, frozenset() if features is None else features.streams
        pictures = tuple(member for member in ("spot", "niche") if f"{member}_image" not in cached)
        self.members = MEMBERS if len(pictures) == 2 else (*pictures, "neighbors", "meta")
        self.verify = verify and self.members == MEMBERS
        records = [slide.record for slide in slides.values()]
        self.spot_side = max(record.spot_px for record in records) if "spot" in self.members else 0
        self.niche_side = max(record.niche_px for record in records) if "niche" in self.members else 0
        self.excluded_width = niche.excluded_width([record.ring_members for record in records])
        self._tars = TarBytes()
        self._buffers = BatchBuffers(pin)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")

    def close(self) -> None:
        self._pool.shutdown()
        self._tars.close()

    def read(self, slide: np.ndarray, rank: np.ndarray, epoch: int) -> SpotBatch:
        """Read B rows: slide numbers [B] and places in the tar order [B], -1 in padding.

        A sample that its checksum or a decoder rejects becomes a row that is not valid and is named in `damaged`.

        Raises:
            ShardError: a truncated tar, by file.
        """
        self._tars.forget()
        batch = len(slide)
        damaged: dict[int, Damaged] = {}
        rows = [row for row in self._fetch(slide, rank) if self._understood(row, damaged)]
        sides = (self.spot_side, self.niche_side)
        spot_image, niche_image = (self._buffers.lend((batch, side, side, 3), torch.uint8) for side in sides)
        pictures = {"spot": spot_image.numpy(), "niche": niche_image.numpy()}
        pictures = {member: images for member, images in pictures.items() if member in self.members}
        starts = range(0, len(rows), DECODED_TOGETHER)
        jobs = [self._pool.submit(_decode_rows, rows[start : start + DECODED_TOGETHER], pictures) for start in starts]
        spots = np.full(batch, -1, np.int64)
        table = np.zeros(batch, np.int64)
        spot_box, niche_box = np.zeros((batch, 4), np.float32), np.zeros((batch, 4), np.float32)
        spot_box[:, 2:], niche_box[:, 2:] = 1, 1
        spot_px, niche_px = np.ones(batch, np.float32), np.ones(batch, np.float32)
        excluded = np.full((batch, self.excluded_width), -1, np.int32)
        if rows:
            at = [row.at for row in rows]
            spots[at], table[at] = [row.spot for row in rows], [row.slide.table for row in rows]
            spot_px[at] = [row.slide.record.spot_px for row in rows]
            niche_px[at] = [row.slide.record.niche_px for row in rows]
            spot_box[at, 2:], niche_box[at] = spot_px[at, None], [row.box for row in rows]
        for row in rows:
            excluded[row.at, : len(row.excluded)] = row.excluded
        spot_counts = self._pairs([(row.at, row.slide, [row.spot], None) for row in rows])
        niche_counts = self._pairs([(row.at, row.slide, row.members, row.weights) for row in rows])
        for job in jobs:
            damaged |= job.result()
        lost = sorted(damaged)
        if lost:
            spots[lost], excluded[lost] = -1, -1
            spot_counts, niche_counts = (_without(pairs, lost) for pairs in (spot_counts, niche_counts))
        valid = spots >= 0
        draws = self.draws(epoch, np.where(valid, slide, 0), np.where(valid, spots, 0))
        features = CachedFeatures()
        if self.features is not None:
            features = self.features.read(epoch, slide, spots, self._buffers)
        shown = [values.numpy() for values in vars(features).values() if values is not None]
        _show_valid_rows((*pictures.values(), *shown, spot_box, niche_box, spot_px, niche_px, table), valid)
        return SpotBatch(
            slide=torch.from_numpy(np.where(valid, slide, -1).astype(np.int64)),
            spot=torch.from_numpy(spots),
            table=torch.from_numpy(table),
            valid=torch.from_numpy(valid),
            spot_image=spot_image,
            spot_box=torch.from_numpy(spot_box),
            spot_px=torch.from_numpy(spot_px),
            spot_counts=spot_counts,
            niche_image=niche_image,
            niche_box=torch.from_numpy(niche_box),
            niche_px=torch.from_numpy(niche_px),
            niche_counts=niche_counts,
            excluded=torch.from_numpy(excluded),
            draws=torch.from_numpy(draws),
            damaged=tuple(damaged[at] for at in lost),
            features=features,
        )

    def _pairs(self, rows: list[tuple[int, SlideShard, Sequence[int], np.ndarray | None]]) -> CountPairs:
        """Copy the members' pairs one after another, counts times weights where there are any; the device adds up.

        Whole numbers below 2^24 are exact in fp32 in any order.

        Args:
            rows: place in the batch, slide, members, their weights.
        """
        parts = [shard.pairs(members) for _, shard, members, _ in rows]
        total = sum(part.shape[1] for of in parts for part in of)
        row, pairs = self._buffers.lend((total,), torch.int32), self._buffers.lend((2, total), torch.int32)
        joined, owner, start = pairs.numpy(), row.numpy(), 0
        for (at, _, _, weights), of in zip(rows, parts, strict=True):
            lengths = [part.shape[1] for part in of]
            stop = start + sum(lengths)
            np.concatenate(of, axis=1, out=joined[:, start:stop], casting="same_kind")
            if weights is not None:
                joined[1, start:stop] *= np.repeat(weights, lengths)
            owner[start:stop] = at
            start = stop
        return CountPairs(row, pairs[0], pairs[1])

    def _fetch(self, slide: np.ndarray, rank: np.ndarray) -> list[_Row]:
        """Read the rows' bytes; rows of one slide that lie side by side in its tar come in one read."""
        rows: list[_Row] = []
        starts = np.flatnonzero(np.diff(slide, prepend=-2))
        for start, stop in pairwise([*starts.tolist(), len(slide)]):
            if slide[start] < 0:
                continue
            shard = self.slides[int(slide[start])]
            places = rank[start:stop]
            samples = shard.samples(places, self._tars, self.members)
            spots = shard.spot_of_rank[places].tolist()
            rows += [
                _Row(start + at, shard, spot, sample)
                for at, (spot, sample) in enumerate(zip(spots, samples, strict=True))
            ]
        return rows

    def _understood(self, row: _Row, damaged: dict[int, Damaged]) -> bool:
        """Check a row's bytes and fill in what its small members say; False, and its name, where they are damaged."""
        try:
            if self.features is not None and not self.features.whole(row.slide.record.number, row.spot):
                raise DamagedSample("it was damaged when its features were made")
            if self.verify:
                _verify(row)
            self._describe(row)
        except DamagedSample as error:
            damaged[row.at] = row.damaged(error)
        return row.at not in damaged

    def _describe(self, row: _Row) -> None:
        neighbors, rings, boxes = small_members(row.sample, len(row.slide))
        record, niche = row.slide.record, self.niche
        members = niche.members(neighbors, rings)
        apart = None
        if niche.weights == "distance":
            apart = np.linalg.norm(row.slide.xy[members] - row.slide.xy[row.spot], axis=1)
        weights = niche.member_weights(len(members), rings, apart)
        row.excluded = niche.excluded(neighbors, rings)
        whole = niche.image == "view"
        row.box = (0, 0, record.niche_px, record.niche_px) if whole else boxes[min(len(members), len(boxes) - 1)]
        row.members = members.tolist()
        if not niche.leave_target_out:
            row.members.append(row.spot)
            weights = None if weights is None else np.append(weights, np.int32(WHOLE))
        row.weights = weights


def _verify(row: _Row) -> None:
    """Raises DamagedSample where the bytes are not those that were written."""
    crc32 = 0
    for member in MEMBERS:
        crc32 = zlib.crc32(row.sample[member], crc32)
    if crc32 != row.slide.index[row.spot, INDEX_COLUMN["crc32"]]:
        raise DamagedSample("its bytes do not have the checksum of the index")


def _decode_rows(rows: list[_Row], pictures: dict[str, np.ndarray]) -> dict[int, Damaged]:
    """Decode the rows' pictures into their places of the batch; the rows that do not decode, by place."""
    damaged = {}
    for row in rows:
        try:
            for member, images in pictures.items():
                decode(row.sample[member], images[row.at], member)
        except DamagedSample as error:
            damaged[row.at] = row.damaged(error)
    return damaged


def _show_valid_rows(columns: Sequence[np.ndarray], valid: np.ndarray) -> None:
    """Rows that are not valid show what valid rows show: black squares would move a BatchNorm's statistics."""
    rest = np.flatnonzero(~valid)
    shown = np.resize(np.flatnonzero(valid), len(rest)) if valid.any() else None
    for column in columns:
        if shown is not None:
            column[rest] = column[shown]
        elif column.dtype == np.uint8:
            column[rest] = 0


def _without(pairs: CountPairs, lost: list[int]) -> CountPairs:
    """The pairs of all other rows."""
    kept = ~torch.isin(pairs.row, torch.tensor(lost, dtype=torch.int32))
    return CountPairs(pairs.row[kept], pairs.gene[kept], pairs.count[kept])
