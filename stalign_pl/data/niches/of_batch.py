"""Neighbourhoods of a batch's rows, read from their samples: members of the niches, boxes, excluded spots."""

from __future__ import annotations

import numpy as np

from stalign_pl.data.niches.config import NicheConfig
from stalign_pl.data.niches.members import Members
from stalign_pl.data.niches.of_sample import parse_neighbourhood
from stalign_pl.data.shards.shard_set import Run, SlideShard
from stalign_pl.shard_format import MEMBERS

NEIGHBORS, META = MEMBERS.index("neighbors"), MEMBERS.index("meta")


class Neighbourhoods:
    """Neighbourhoods that are filled in row by row; rows that are not filled in have no members and exclude no spot.

    Args:
        batch: B, rows.
        niche: which neighbours make a niche.
        excluded_width: E, the most spots that a row may exclude.
        members_width: the most members that a row's niche may have.

    Attributes:
        niche: as given.
        itself: the row's spot alone, as the one member of a sum.
        members: of the row's niche.
        excluded: int32 [B, E], spots that are no negatives; -1 fills up.
        box: float32 [B, 4], (x0, y0, x1, y1) of what to show of the niche picture, in pixels of it.
    """

    def __init__(self, batch: int, niche: NicheConfig, excluded_width: int, members_width: int) -> None:
        self.niche = niche
        self.itself = Members(batch, 1)
        self.members = Members(batch, members_width, niche.weights != "uniform", niche.even_depth)
        self.excluded = np.full((batch, excluded_width), -1, np.int32)
        self.box = np.zeros((batch, 4), np.float32)
        self.box[:, 2:] = 1

    def read(self, run: Run, number: int) -> None:
        """Fill in the row of a sample.

        Args:
            run: samples that were read together.
            number: the sample's place in the run.

        Raises:
            DamagedSampleError: it cannot be read.
        """
        niche, at, spot = self.niche, run.at + number, run.spots[number]
        neighbors, rings, boxes = parse_neighbourhood(
            run.payload(number, NEIGHBORS), run.payload(number, META), len(run.slide)
        )
        members, excluded = niche.members(neighbors, rings), niche.excluded(neighbors, rings)
        count = len(members)
        self.itself.spots[at, 0], self.itself.used[at] = spot, 1
        self.members.spots[at, :count] = members
        self.excluded[at, : len(excluded)] = excluded
        side = run.slide.record.niche_px
        self.box[at] = (0, 0, side, side) if niche.image == "view" else boxes[min(count, len(boxes) - 1)]
        if self.members.weights is not None and niche.weights != "uniform":
            far = np.searchsorted(rings, np.arange(count), side="right") + 1
            if niche.weights == "distance":
                far = _measure_distances(run.slide, spot, members)
            self.members.weights[at, :count] = niche.member_weights(far)
        if not niche.leave_target_out:
            self.members.spots[at, count] = spot
            count += 1
        self.members.used[at] = count


def _measure_distances(slide: SlideShard, spot: int, members: np.ndarray) -> np.ndarray:
    """float [members]: their distances from the spot, in pitches."""
    return np.linalg.norm(slide.xy[members] - slide.xy[spot], axis=1)
