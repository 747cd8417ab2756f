"""Figures that show whether a contrast learns, collapses or cheats: global sums, without a device synchronisation."""

from __future__ import annotations

import torch
from torch import Tensor

from stalign_pl.distributed import World, all_gather
from stalign_pl.objectives.contrastive import Contrast
from stalign_pl.objectives.paired import PairedNegatives
from stalign_pl.objectives.pairs import Pairs
from stalign_pl.objectives.retrieval import Shares

UNIFORMITY_ROWS = 1024
"""Uniformity is that of about this many rows of the global batch, evenly spaced; of all where it has fewer."""


def sum_alignment(contrast: Contrast, pairs: Pairs) -> tuple[Tensor, Tensor]:
    """Squared distance of partners on the unit sphere, 0 to 4, summed; the ratio is alignment (Wang and Isola 2020)."""
    valid = pairs.valid.float()
    return (contrast.a - contrast.b).square().sum(1).float() @ valid, valid.sum()


def sum_uniformity(contrast: Contrast, pairs: Pairs) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Of a and of b: exp(-2 |x - y|^2) summed over pairs of different valid spots, and their number; one collective.

    The log of the ratio is uniformity (Wang and Isola 2020): 0 for a collapsed embedding, about -4 for one spread
    evenly over the sphere.
    """
    world, rows = pairs.world, len(pairs.valid)
    stride = -(-rows * world.size // UNIFORMITY_ROWS)
    here = torch.arange(0, rows, stride, device=pairs.valid.device)
    columns = (here + rows * torch.arange(world.size, device=here.device)[:, None]).flatten()
    other = pairs.valid[here, None] & pairs.everyone.valid[columns]
    other &= (here + rows * world.rank)[:, None] != columns
    sides = torch.stack((contrast.a[here], contrast.b[here]), dim=1)
    everyone = all_gather(sides, world)
    shares = []
    for side in (0, 1):
        potential = torch.exp(4 * (sides[:, side] @ everyone[:, side].T) - 4)  # |x - y|^2 = 2 - 2 x y
        shares.append((torch.where(other, potential, 0).sum().float(), other.sum().float()))
    return shares[0], shares[1]


def count_masked(pairs: Pairs) -> tuple[Tensor, Tensor]:
    """Pairs of different valid spots that are not contrasted, and all of them."""
    masked, all_pairs = pairs.valid_count.new_zeros(2).unbind()
    for rows in pairs.chunks:
        masks = pairs.masks(rows)
        other = masks.same_slide | masks.other_slide
        masked = masked + (other & ~masks.contrasted).sum()
        all_pairs = all_pairs + other.sum()
    return masked, all_pairs


def count_paired(negatives: PairedNegatives, pairs: Pairs) -> Shares:
    """Of the places for negatives, C - 1 a valid row: how many hold a spot of another cluster, and how many none."""
    present = negatives.present.sum().float()
    places = pairs.valid.sum().float() * (negatives.present.shape[1] - 1)
    return {
        "substitute_negatives": (negatives.substitute.sum().float(), places),
        "absent_negatives": (places - present, places),
    }


def divide_shares(shares: Shares, world: World) -> dict[str, Tensor]:
    """The global figures, the same on every rank; one collective. 0 where there was nothing to count.

    Not by torchmetrics: its metrics sum a state over ranks in three collectives, and wait for the device each time.
    """
    packed = world.sum_over_ranks(torch.stack([torch.stack(share) for share in shares.values()]))
    values = packed[:, 0] / packed[:, 1].clamp(min=1)
    return dict(zip(shares, values.unbind(), strict=True))
