"""The paper's loss: spot, niche and cross-scale contrasts, weighted; what the kinds of contrast share."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from stalign_pl.batch.spot_ids import SpotIds
from stalign_pl.distributed import World
from stalign_pl.errors import ConfigError
from stalign_pl.objectives.contrastive import Contrast
from stalign_pl.objectives.diagnostics import count_masked, count_paired, divide_shares, sum_alignment, sum_uniformity
from stalign_pl.objectives.paired import PairedNegatives
from stalign_pl.objectives.pairs import Pairs
from stalign_pl.objectives.retrieval import Retrieval, Shares

if TYPE_CHECKING:
    from stalign_pl.batch.embeddings import Embeddings

CONTRASTS = {
    "spot": ("spot_image", "spot_gene"),
    "niche": ("niche_image", "niche_gene"),
    "cross": ("spot", "niche"),
}
"""Level -> the two fields of `Embeddings` it draws together. The order is that of `log_scale`."""


ROUNDING = 1e-9
"""A weight below is 0."""


@dataclass(frozen=True)
class LossTerms:
    """The loss of a global batch, scalars.

    Attributes:
        total: with gradient. Its value is the loss of the global batch; its gradient is this rank's part, such that
            DDP's mean over ranks is the gradient of the global loss.
        spot: detached; the global loss of the spot level, before weighting. None where its weight is 0.
        niche: likewise, of the niche level.
        cross: likewise, across the two scales.
        diagnostics: name -> detached, global, the same on every rank: `temperature_<level>` (1 / scale) and what else
            is learned, `accuracy_<level>`, `accuracy_in_slide_<level>`, `accuracy_across_slides_<level>`,
            `alignment_<level>`, `uniformity_<field of Embeddings>`, `masked_pairs`, and of gene regression
            `loss_<name>`; explained in `stalign_pl.objectives.retrieval`, `.diagnostics` and `.regression`.
    """

    total: Tensor
    spot: Tensor | None
    niche: Tensor | None
    cross: Tensor | None
    diagnostics: dict[str, Tensor]


class ThreeLevelObjective(nn.Module, ABC):
    """spot_weight * L_spot + niche_weight * L_niche + (1 - both) * L_cross, each a contrast of the same kind.

    A level whose weight is 0 is not computed, needs no embeddings and is not logged.

    Args:
        spot_weight: l1 of the paper, in [0, 1].
        niche_weight: l2 of the paper, in [0, 1]; with `spot_weight` at most 1.
        temperature: at the start, of every level; the scale is its inverse.
        learn_temperature: one log(scale) a level is a parameter.
        max_scale: upper bound of the scale.
        other_slides: weight of negatives of other slides, in [0, 1]: 1 contrasts with the whole global batch, 0 with
            the anchor's own slide alone, as the authors draw them.
        chunk: rows of a process of which the logits are held at once; the same loss and gradient, less memory. A batch
            of more rows takes about a quarter more time.

    Raises:
        ConfigError: weights, temperature or chunk out of range.
    """

    needs_clusters = False
    """Whether `SpotIds` must bring clusters and draws, that is, whether data.clusters must be set."""

    def __init__(
        self,
        spot_weight: float,
        niche_weight: float,
        temperature: float,
        learn_temperature: bool,
        max_scale: float,
        other_slides: float,
        chunk: int,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        for option, value in (
            ("spot_weight", spot_weight),
            ("niche_weight", niche_weight),
            ("other_slides", other_slides),
        ):
            if not 0 <= value <= 1:
                raise ConfigError(f"{name}: {option} is {value}; should be in [0, 1]")
        cross_weight = 1 - (spot_weight + niche_weight)
        if abs(cross_weight) < ROUNDING:  # of 0.35 + 0.65 and the like
            cross_weight = 0.0
        if cross_weight < 0:
            raise ConfigError(
                f"{name}: spot_weight {spot_weight} + niche_weight {niche_weight} is {spot_weight + niche_weight}; "
                f"should be at most 1: the rest is the weight of the cross-scale loss"
            )
        if not (temperature > 0 and max_scale > 0 and 1 / temperature <= max_scale):
            raise ConfigError(
                f"{name}: temperature is {temperature}; should be at least 1 / max_scale, and max_scale "
                f"({max_scale}) above 0"
            )
        if chunk < 1:
            raise ConfigError(f"{name}: chunk is {chunk}; a number of rows, at least 1, is wanted")
        self.weights = (spot_weight, niche_weight, cross_weight)  # in the order of CONTRASTS
        self.levels = {
            level: number for number, (level, weight) in enumerate(zip(CONTRASTS, self.weights, strict=True)) if weight
        }
        self.max_log_scale = math.log(max_scale)
        self.other_slides, self.chunk = other_slides, chunk
        start = torch.full((len(CONTRASTS),), -math.log(temperature))
        self.log_scale = nn.Parameter(start, requires_grad=learn_temperature)

    @property
    def embeddings(self) -> tuple[str, ...]:
        """Fields of `Embeddings` that are contrasted."""
        return tuple(name for level in self.levels for name in CONTRASTS[level])

    @abstractmethod
    def contrast(
        self, level: int, a: Tensor, b: Tensor, pairs: Pairs, negatives: PairedNegatives | None, retrieval: Retrieval
    ) -> Contrast:
        """The contrast of one level (its number in CONTRASTS); must show every similarity to `retrieval`."""

    def draw_negatives(self, pairs: Pairs) -> PairedNegatives | None:
        """Negatives drawn once a batch, for all levels; None where all that `pairs` names are contrasted."""
        return None

    def get_learned(self) -> dict[str, Tensor]:
        """Parameters to log: name -> [3], a value a level."""
        return {"temperature": (-self.log_scale).exp()}

    def forward(self, embeddings: Embeddings, ids: SpotIds) -> LossTerms:
        """The loss of the global batch; collectives on every rank.

        Args:
            embeddings: this rank's rows, [b, D] each; D may differ between levels.
            ids: the same rows' ids.
        """
        pairs = Pairs(ids, World.current(), self.other_slides, self.chunk)
        negatives = self.draw_negatives(pairs)
        shares: Shares = {"masked_pairs": count_masked(pairs)}
        if negatives is not None:
            shares |= count_paired(negatives, pairs)
        with torch.no_grad():
            # The parameter is bounded, not the value read from it: past a clamp there is no gradient to come back by.
            self.log_scale.clamp_(max=self.max_log_scale)
        losses = []
        for level, number in self.levels.items():
            first, second = CONTRASTS[level]
            a, b = getattr(embeddings, first), getattr(embeddings, second)
            retrieval = Retrieval(pairs, torch.promote_types(a.dtype, torch.float32))
            contrast = self.contrast(number, a, b, pairs, negatives, retrieval)
            losses.append(contrast.loss)
            shares |= retrieval.shares(level)
            shares[f"alignment_{level}"] = sum_alignment(contrast, pairs)
            shares[f"uniformity_{first}"], shares[f"uniformity_{second}"] = sum_uniformity(contrast, pairs)
        local = torch.stack(losses)
        world_losses = pairs.world.sum_over_ranks(local) / pairs.world.size
        share, value = self._weigh(local), self._weigh(world_losses)
        by_level = {**dict.fromkeys(CONTRASTS), **dict(zip(self.levels, world_losses.unbind(), strict=True))}
        figures = self._compute_figures(shares, pairs.world)
        return LossTerms(total=share + (value - share).detach(), **by_level, diagnostics=figures)

    def _weigh(self, losses: Tensor) -> Tensor:
        """Scalar from [levels]; the weights stay Python numbers, which no device has to be sent."""
        weights = (self.weights[number] for number in self.levels.values())
        terms = (weight * loss for weight, loss in zip(weights, losses.unbind(), strict=True))
        return sum(terms, losses.new_zeros(()))

    @torch.no_grad()
    def _compute_figures(self, shares: Shares, world: World) -> dict[str, Tensor]:
        figures = divide_shares(shares, world)
        for name in list(figures):
            if name.startswith("uniformity_"):
                figures[name] = figures[name].clamp(min=math.exp(-8)).log()  # -8: the antipodes, the least there is
        for name, values in self.get_learned().items():
            figures |= {f"{name}_{level}": values[number] for level, number in self.levels.items()}
        return figures
