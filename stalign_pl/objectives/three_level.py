"""The paper's loss: spot, niche and cross-scale contrasts, weighted."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from stalign_pl.errors import ConfigError
from stalign_pl.objectives.contrastive import Contrast, symmetric_info_nce
from stalign_pl.objectives.diagnostics import Shares, contrast_shares, masked_share, ratios, uniformity_share
from stalign_pl.objectives.gather import World
from stalign_pl.objectives.ids import SpotIds
from stalign_pl.objectives.pairs import Pairs

if TYPE_CHECKING:
    from stalign_pl.models import Embeddings

CONTRASTS = {
    "spot": ("spot_image", "spot_gene"),
    "niche": ("niche_image", "niche_gene"),
    "cross": ("spot", "niche"),
}
"""Level -> the two fields of `Embeddings` it draws together. The order is that of `ThreeLevelLoss.log_scale`."""


@dataclass(frozen=True)
class LossTerms:
    """The loss of a global batch, scalars.

    Attributes:
        total: with gradient. Its value is the loss of the global batch; its gradient is this rank's share, such that
            DDP's mean over ranks is the gradient of the global loss.
        spot, niche, cross: detached; the levels' global losses, before weighting.
        diagnostics: name -> detached, global, the same on every rank: `temperature_<level>`, `accuracy_<level>`,
            `accuracy_in_slide_<level>`, `alignment_<level>`, `uniformity_<field of Embeddings>`, `masked_pairs`;
            explained in `stalign_pl.objectives.diagnostics`.
    """

    total: Tensor
    spot: Tensor
    niche: Tensor
    cross: Tensor
    diagnostics: dict[str, Tensor]


class ThreeLevelLoss(nn.Module):
    """spot_weight * L_spot + niche_weight * L_niche + (1 - both) * L_cross, each a symmetric InfoNCE.

    Args:
        spot_weight, niche_weight: l1 and l2 of the paper, in [0, 1] and at most 1 together.
        temperature: at the start, of every level. The paper states none, its code has 0.1.
        learn_temperature: one log(1 / temperature) a level is a parameter.
        max_scale: upper bound of 1 / temperature.
        same_slide_only: negatives from the anchor's own slide alone, as the paper's code draws them.

    Raises:
        ConfigError: weights or temperature out of range.
    """

    def __init__(
        self,
        spot_weight: float = 0.4,
        niche_weight: float = 0.3,
        temperature: float = 0.07,
        learn_temperature: bool = True,
        max_scale: float = 100.0,
        same_slide_only: bool = False,
    ) -> None:
        super().__init__()
        for name, weight in (("spot_weight", spot_weight), ("niche_weight", niche_weight)):
            if not 0 <= weight <= 1:
                raise ConfigError(f"ThreeLevelLoss: {name} is {weight}; should be in [0, 1]")
        if spot_weight + niche_weight > 1:
            raise ConfigError(
                f"ThreeLevelLoss: spot_weight {spot_weight} + niche_weight {niche_weight} is "
                f"{spot_weight + niche_weight}; should be at most 1: the rest is the weight of the cross-scale loss"
            )
        if not (temperature > 0 and max_scale > 0 and 1 / temperature <= max_scale):
            raise ConfigError(
                f"ThreeLevelLoss: temperature is {temperature}; should be at least 1 / max_scale, and max_scale "
                f"({max_scale}) above 0"
            )
        self.weights = (spot_weight, niche_weight, 1 - (spot_weight + niche_weight))  # in the order of CONTRASTS
        self.max_log_scale = math.log(max_scale)
        self.same_slide_only = same_slide_only
        start = torch.full((len(CONTRASTS),), -math.log(temperature))
        self.log_scale = nn.Parameter(start, requires_grad=learn_temperature)

    def forward(self, embeddings: Embeddings, ids: SpotIds) -> LossTerms:
        """The loss of the global batch; collectives on every rank.

        Args:
            embeddings: this rank's rows, [b, D] each; D may differ between levels.
            ids: the same rows' ids.
        """
        world = World.current()
        pairs = Pairs.of(ids, world, self.same_slide_only)
        with torch.no_grad():
            # The parameter is bounded, not the value read from it: past a clamp there is no gradient to come back by.
            self.log_scale.clamp_(max=self.max_log_scale)
        contrasts = {
            level: symmetric_info_nce(
                getattr(embeddings, first), getattr(embeddings, second), self.log_scale[number], pairs
            )
            for number, (level, (first, second)) in enumerate(CONTRASTS.items())
        }
        local = torch.stack([contrast.loss for contrast in contrasts.values()])
        losses = world.summed(local) / world.size
        share, value = self._weighted(local), self._weighted(losses)
        return LossTerms(share + (value - share).detach(), *losses.unbind(), self._diagnostics(contrasts, pairs))

    def _weighted(self, losses: Tensor) -> Tensor:
        """Scalar from [3]; the weights stay Python numbers, which no device has to be sent."""
        return sum(weight * loss for weight, loss in zip(self.weights, losses.unbind(), strict=True))

    @torch.no_grad()
    def _diagnostics(self, contrasts: dict[str, Contrast], pairs: Pairs) -> dict[str, Tensor]:
        shares: Shares = {"masked_pairs": masked_share(pairs)}
        for level, contrast in contrasts.items():
            first, second = CONTRASTS[level]
            shares |= contrast_shares(contrast, pairs, level)
            shares[f"uniformity_{first}"] = uniformity_share(contrast.a, contrast.all_a, pairs)
            shares[f"uniformity_{second}"] = uniformity_share(contrast.b, contrast.all_b, pairs)
        figures = ratios(shares, pairs.world)
        for name in list(figures):
            if name.startswith("uniformity_"):
                figures[name] = figures[name].clamp(min=math.exp(-8)).log()  # -8: the antipodes, the least there is
        for level, log_scale in zip(CONTRASTS, self.log_scale.unbind(), strict=True):
            figures[f"temperature_{level}"] = (-log_scale).exp()
        return figures
