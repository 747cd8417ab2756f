"""Which columns of the global batch each local row is contrasted with, a chunk of rows at a time."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stalign_pl.batch.spot_ids import SpotIds
from stalign_pl.distributed import World

CHUNK = 1024
"""Rows of which the logits are held at once, where a configuration does not say."""


@dataclass(frozen=True)
class Masks:
    """A chunk of local rows [c] against the columns [N] of the global batch.

    Attributes:
        contrasted: bool [c, N]; the row's positive, and its negatives: valid, none of its excluded spots, not
            excluding it either, and of its own slide where `Pairs.other_slides` is 0.
        same_slide: bool [c, N]; valid columns of the row's slide but the row itself, neighbours included. Nothing for
            a row of padding.
        other_slide: bool [c, N]; valid columns of other slides. Nothing for a row of padding.
        positive: int64 [c]; the row's own column.
    """

    contrasted: Tensor
    same_slide: Tensor
    other_slide: Tensor
    positive: Tensor


class Pairs:
    """Local rows [b] against the columns [N] of the global batch, N = b * world.size. One collective.

    Memory: int64 [N, E], and while the masks of a chunk are made a few bool [chunk, N], never [b, N].

    Args:
        ids: this rank's rows.
        world: the ranks, and which one this is.
        other_slides: weight of negatives of other slides, 0 to 1: each counts as so many in a loss's sum over
            negatives. 1 contrasts with all slides, 0 with the row's own alone.
        chunk: rows of which masks and logits are held at once.

    Attributes:
        everyone: SpotIds of all ranks' rows.
        valid: bool [b].
        valid_count: float scalar, valid rows of the global batch, at least 1.
    """

    def __init__(self, ids: SpotIds, world: World, other_slides: float = 1.0, chunk: int = CHUNK) -> None:
        self.ids, self.world, self.other_slides = ids, world, other_slides
        self.everyone = ids.gather(world)
        self.valid = ids.valid
        self.valid_count = self.everyone.valid.sum().clamp(min=1).float()
        self.chunks = [slice(start, min(start + chunk, len(ids))) for start in range(0, len(ids), chunk)]
        self._columns = torch.arange(len(self.everyone), device=ids.slide.device)
        # Spots are compared by their place among the batch's sorted keys: what is not in the batch gets place N.
        ordered = self.everyone.keys.sort().values
        self._place = torch.searchsorted(ordered, self.everyone.keys)  # [N]; a spot that comes twice has one place
        lists = self.everyone.excluded_keys
        found = torch.searchsorted(ordered, lists).clamp(max=len(ordered) - 1)
        self._listed = torch.where(ordered[found] == lists, found, len(ordered))  # [N, 1 + E]
        # The masks of a batch that is one chunk serve every level and both directions.
        self._whole = self._make_masks(self.chunks[0]) if len(self.chunks) == 1 else None

    def masks(self, rows: slice) -> Masks:
        """The masks of one of `chunks`."""
        return self._make_masks(rows) if self._whole is None else self._whole

    def _make_masks(self, rows: slice) -> Masks:
        positive = self._columns[self.world.rows(len(self.ids))][rows]
        itself = positive[:, None] == self._columns
        other = (self.ids.valid[rows, None] & self.everyone.valid) & ~itself
        same_slide = other & (self.ids.slide[rows, None] == self.everyone.slide)
        other_slide = other & ~same_slide
        negative = (same_slide if self.other_slides == 0 else other) & ~self._find_near(positive)
        return Masks(negative | itself, same_slide, other_slide, positive)

    def _find_near(self, rows: Tensor) -> Tensor:
        """bool [c, N]: whether row or column lists the other, or both are one spot. rows int64 [c], as columns.

        The lists need not be symmetric (a spot at the rim lists fewer), the effect is: either side's word counts.
        """
        count, columns = len(rows), len(self._columns)
        lists = torch.zeros(count, columns + 1, dtype=torch.bool, device=rows.device)
        lists.scatter_(1, self._listed[rows], True)
        # The other way round: a row of `listing` for each spot of the chunk, a spare one for all others.
        slot = torch.full((columns + 1,), count, device=rows.device)
        slot[self._place[rows]] = torch.arange(count, device=rows.device)
        listing = torch.zeros(count + 1, columns, dtype=torch.bool, device=rows.device)
        listing.view(-1).scatter_(0, (slot[self._listed] * columns + self._columns[:, None]).flatten(), True)
        listing = listing.index_select(0, slot[self._place[rows]])
        return lists.gather(1, self._place.expand(count, columns)).logical_or_(listing)
