"""Which columns of the global batch each local row is contrasted with."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stalign_pl.objectives.gather import World
from stalign_pl.objectives.ids import SpotIds


@dataclass(frozen=True)
class Pairs:
    """Local rows [b] against the columns [N] of the global batch, N = b * world.size.

    Attributes:
        contrasted: bool [b, N]; the row's positive, and its negatives: valid, none of its excluded spots, not
            excluding it either, and with `same_slide_only` of its own slide.
        other: bool [b, N]; every valid column but the row itself. Nothing for a row of padding.
        same_slide: bool [b, N]; the part of `other` that is of the row's slide.
        positive: int64 [b]; the row's own column.
        valid: bool [b].
        valid_count: float scalar, valid rows of the global batch, at least 1.
    """

    world: World
    contrasted: Tensor
    other: Tensor
    same_slide: Tensor
    positive: Tensor
    valid: Tensor
    valid_count: Tensor

    @classmethod
    def of(cls, ids: SpotIds, world: World, same_slide_only: bool = False) -> Pairs:
        """Work the pairs out from the ids; one collective.

        Memory: a few bool [b, N] and int64 [N, E]; never [N, N].
        """
        everyone = ids.gathered(world)
        columns = torch.arange(len(everyone), device=ids.slide.device)
        positive = columns[world.rows(len(ids))]
        itself = positive[:, None] == columns
        other = ids.valid[:, None] & everyone.valid & ~itself
        same_slide = other & (ids.slide[:, None] == everyone.slide)
        # The lists need not be symmetric (a spot at the rim lists fewer), the effect is: either side's word counts.
        near = listed(ids.excluded_keys, everyone.keys) | listed(everyone.excluded_keys, ids.keys).T
        negative = (same_slide if same_slide_only else other) & ~near
        return cls(
            world=world,
            contrasted=negative | itself,
            other=other,
            same_slide=same_slide,
            positive=positive,
            valid=ids.valid,
            valid_count=everyone.valid.sum().clamp(min=1).float(),
        )


def listed(lists: Tensor, keys: Tensor) -> Tensor:
    """bool [R, C]: whether key c stands in list r. lists int64 [R, L], keys int64 [C], in any order, with repeats.

    Each list entry is looked up in the sorted keys: O((R L + C) log C) time, int64 [R, L] and bool [R, C] memory, and
    no synchronisation with the device.
    """
    ordered = keys.sort().values
    place = torch.searchsorted(ordered, lists)
    found = ordered[place.clamp(max=len(keys) - 1)] == lists
    hits = torch.zeros(len(lists), len(keys) + 1, dtype=torch.bool, device=keys.device)
    hits.scatter_(1, torch.where(found, place, len(keys)), True)  # what is not found goes to the spare last column
    # A key that occurs several times was hit at its first place alone; every occurrence looks there.
    return hits[:, torch.searchsorted(ordered, keys)]
