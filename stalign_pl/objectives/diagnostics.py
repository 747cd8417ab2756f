"""Figures that show whether a contrast learns, collapses or cheats: global sums, without a device synchronisation."""

from __future__ import annotations

import torch
from torch import Tensor

from stalign_pl.objectives.contrastive import Contrast
from stalign_pl.objectives.gather import World
from stalign_pl.objectives.pairs import Pairs

Shares = dict[str, tuple[Tensor, Tensor]]
"""Name of a figure -> this rank's (numerator, denominator), scalars; the figure is the ratio of their sums."""


def contrast_shares(contrast: Contrast, pairs: Pairs, level: str) -> Shares:
    """Retrieval and alignment of one contrast.

    accuracy_<level>: of the valid rows, how many are nearer to their own partner than to any other valid column, masked
        neighbours included; mean of both directions. A tie is a miss, so a collapsed model scores 0, not chance.
    accuracy_in_slide_<level>: the same among columns of the row's slide, of the rows that have such a column: what is
        left when stain and sequencing depth no longer tell the answer.
    alignment_<level>: mean squared distance of partners on the unit sphere, 0 to 4 (Wang and Isola 2020).
    """
    valid = pairs.valid.float()
    contested = pairs.same_slide.any(1).float()
    return {
        f"accuracy_{level}": (_hits(contrast, pairs, pairs.other) @ valid, valid.sum()),
        f"accuracy_in_slide_{level}": (_hits(contrast, pairs, pairs.same_slide) @ contested, contested.sum()),
        f"alignment_{level}": ((contrast.a - contrast.b).square().sum(1).float() @ valid, valid.sum()),
    }


def uniformity_share(local: Tensor, everyone: Tensor, pairs: Pairs) -> tuple[Tensor, Tensor]:
    """exp(-2 |x - y|^2) summed over pairs of different valid spots, and their number; log of the ratio: uniformity.

    0 for a collapsed embedding, about -4 for one spread evenly over the sphere (Wang and Isola 2020).

    Args:
        local: [b, D], unit vectors of this rank's rows.
        everyone: [N, D], those of all ranks.
    """
    squared = 2 - 2 * local @ everyone.T
    return torch.where(pairs.other, torch.exp(-2 * squared), 0).sum().float(), pairs.other.sum().float()


def masked_share(pairs: Pairs) -> tuple[Tensor, Tensor]:
    """Pairs of different valid spots that are not contrasted, and all of them."""
    return (pairs.other & ~pairs.contrasted).sum().float(), pairs.other.sum().float()


def ratios(shares: Shares, world: World) -> dict[str, Tensor]:
    """The global figures, the same on every rank; one collective. 0 where there was nothing to count."""
    packed = world.summed(torch.stack([torch.stack(share) for share in shares.values()]))
    values = packed[:, 0] / packed[:, 1].clamp(min=1)
    return dict(zip(shares, values.unbind(), strict=True))


def _hits(contrast: Contrast, pairs: Pairs, rivals: Tensor) -> Tensor:
    """[b]: the share of the two directions in which a row's own column beats every rival strictly."""
    right = torch.zeros(len(pairs.valid), device=rivals.device)
    for logits in (contrast.logits_ab, contrast.logits_ba):
        own = logits.gather(1, pairs.positive[:, None])
        right += (~((logits >= own) & rivals).any(1)).float() / 2
    return right
