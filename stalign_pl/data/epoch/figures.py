"""Figures of an epoch's plan: batches, padding, slides a batch, partners a spot, masked pairs. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from stalign_pl.batch.damage import DamagedSampleError
from stalign_pl.data.epoch.plan import PADDING, Plan
from stalign_pl.data.niches.config import NicheConfig
from stalign_pl.data.niches.of_sample import parse_neighbourhood
from stalign_pl.data.shards.shard_set import SlideShard
from stalign_pl.data.shards.tar_bytes import TarBytes

SAMPLED = 16
"""Spots of a slide whose neighbours are read to estimate the share of masked pairs."""


@dataclass(frozen=True)
class PlanFigures:
    """Figures of one epoch's plan.

    Attributes:
        epoch: number of the epoch.
        slides: slides that the plan is made of.
        spots: rows that are spots.
        batches: global batches.
        rows: rows of a global batch.
        padding: rows of the last batch that are not spots.
        slides_min: fewest slides of a full global batch (or of the only batch).
        slides_median: median of the same.
        slides_max: most of the same.
        partners: mean number of spots of its own slide with which a spot shares its global batch.
        masked: share of the pairs of different spots in a batch that are no negatives, being neighbours; None where
            it was not requested.
        exact: whether `masked` counts every pair; else it is estimated from some spots of each slide.
    """

    epoch: int
    slides: int
    spots: int
    batches: int
    rows: int
    padding: int
    slides_min: int
    slides_median: float
    slides_max: int
    partners: float
    masked: float | None
    exact: bool

    def describe(self) -> list[tuple[str, str]]:
        """Describe the figures for people: (name, value) of each."""
        lines = [
            (f"epoch {self.epoch}", f"{self.spots:,} spots of {self.slides:,} slides"),
            ("batches", f"{self.batches:,}"),
            ("rows a global batch", f"{self.rows:,}"),
            ("padding", f"{self.padding:,} rows of the last batch, {self.padding / (self.batches * self.rows):.2%}"),
            ("slides a batch", f"{self.slides_min} / {self.slides_median:g} / {self.slides_max} (min, median, max)"),
            ("own-slide partners a spot", f"{self.partners:.1f}"),
        ]
        if self.masked is not None:
            lines.append(("masked pairs", f"{self.masked:.3%} ({'counted' if self.exact else 'estimated'})"))
        return lines


def compute_figures(
    plan: Plan, epoch: int, slides: Mapping[int, SlideShard], masked: Mapping[int, float] | NicheConfig | None = None
) -> PlanFigures:
    """Compute the figures of a plan.

    Args:
        plan: of one epoch.
        epoch: its number.
        slides: the plan's slides by number.
        masked: each slide's share from `estimate_excluded_shares`, for an estimate; or the niche, to read every spot's
            neighbours and count; None reads nothing and leaves `PlanFigures.masked` out.
    """
    valid = plan.slide != PADDING
    batch, number, size = _group_by_slide(plan)
    filled = valid.sum(axis=1)
    pairs = int((filled * (filled - 1)).sum())
    own = int((size * (size - 1)).sum())
    near = None
    if isinstance(masked, NicheConfig):
        near = float(sum(_count_masked_pairs(plan, slide, masked) for slide in slides.values()))
    elif masked is not None:
        near = float((size * (size - 1) * np.array([masked[slide] for slide in number.tolist()])).sum())
    a_batch = np.bincount(batch, minlength=len(plan))
    full = a_batch[:-1] if len(plan) > 1 else a_batch
    spots = int(valid.sum())
    return PlanFigures(
        epoch=epoch,
        slides=len(slides),
        spots=spots,
        batches=len(plan),
        rows=plan.slide.shape[1],
        padding=plan.slide.size - spots,
        slides_min=int(full.min()),
        slides_median=float(np.median(full)),
        slides_max=int(full.max()),
        partners=own / spots,
        masked=None if near is None else near / max(pairs, 1),
        exact=isinstance(masked, NicheConfig),
    )


def _group_by_slide(plan: Plan) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Group each batch's spots by slide.

    Returns:
        Batch, slide and number of spots of each group; int64 [groups] each.
    """
    place, column = np.nonzero(plan.slide != PADDING)
    code, size = np.unique(place << 32 | plan.slide[place, column], return_counts=True)
    return code >> 32, code & 0xFFFFFFFF, size


def read_excluded_spots(shard: SlideShard, niche: NicheConfig, spots: np.ndarray) -> dict[int, np.ndarray]:
    """Read which spots of the slide are no negatives of each spot. Damaged samples are left out.

    Reads the neighbours and the metadata alone, which stand side by side: one short read a spot.

    Args:
        shard: the slide.
        niche: which neighbours make a niche.
        spots: int [n], spot indices.

    Returns:
        Spot -> int32 [excluded], spot indices.
    """
    tars, found = TarBytes(), {}
    start, stop = shard.column("neighbors_offset"), shard.column("meta_offset") + shard.column("meta_length")
    lengths = {name: shard.column(f"{name}_length") for name in ("neighbors", "meta")}
    for spot in spots.tolist():
        tars.forget()
        data = tars.read(shard.tar_of(spot), [(int(start[spot]), int(stop[spot] - start[spot]))])
        neighbors, meta = data[: lengths["neighbors"][spot]], data[-lengths["meta"][spot] :]
        try:
            neighbors, rings, _ = parse_neighbourhood(neighbors, meta, len(shard))
        except DamagedSampleError:
            continue
        found[spot] = niche.excluded(neighbors, rings).copy()
    tars.close()
    return found


def estimate_excluded_shares(slides: Mapping[int, SlideShard], niche: NicheConfig) -> dict[int, float]:
    """Estimate the share of its slide's other spots that a spot excludes, from SAMPLED spots of each slide.

    Args:
        slides: slide number -> slide.
        niche: which neighbours make a niche.

    Returns:
        Slide number -> share, 0 to 1.
    """
    return {number: _estimate_share(shard, niche) for number, shard in slides.items()}


def _estimate_share(shard: SlideShard, niche: NicheConfig) -> float:
    """The mean share of a slide's other spots that a spot excludes, over the first of the tar's random order."""
    lists = read_excluded_spots(shard, niche, shard.spot_of_rank[:SAMPLED])
    if not lists or len(shard) < 2:
        return 0.0
    return sum(len(near) for near in lists.values()) / len(lists) / (len(shard) - 1)


def _count_masked_pairs(plan: Plan, shard: SlideShard, niche: NicheConfig) -> int:
    """Count ordered pairs of a slide's spots that share a batch and are masked, as one excludes the other."""
    lists = read_excluded_spots(shard, niche, np.arange(len(shard)))
    at, column = np.nonzero(plan.slide == shard.record.number)
    batch = np.full(len(shard), -1)
    batch[shard.spot_of_rank[plan.rank[at, column]]] = at
    spot = np.repeat(np.array(list(lists), np.int64), [len(near) for near in lists.values()])
    near = np.concatenate([np.zeros(0, np.int64), *lists.values()]).astype(np.int64)
    together = (batch[spot] == batch[near]) & (batch[spot] >= 0)
    spot, near = spot[together], near[together]
    both = np.concatenate([spot * len(shard) + near, near * len(shard) + spot])
    return len(np.unique(both))
