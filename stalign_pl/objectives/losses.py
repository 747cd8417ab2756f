"""The three kinds of three-level loss that a configuration may name."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stalign_pl.objectives.contrastive import Contrast
from stalign_pl.objectives.info_nce import symmetric_info_nce
from stalign_pl.objectives.paired import PairedNegatives, paired_info_nce
from stalign_pl.objectives.pairs import CHUNK, Pairs
from stalign_pl.objectives.retrieval import Retrieval
from stalign_pl.objectives.sigmoid import pairwise_sigmoid
from stalign_pl.objectives.three_level import CONTRASTS, ThreeLevelObjective


class ThreeLevelLoss(ThreeLevelObjective):
    """Symmetric InfoNCE over the global batch at every level, the paper's text (`symmetric_info_nce`).

    Args: as of `ThreeLevelObjective`. The paper states no temperature, its code has 0.1.
    """

    def __init__(
        self,
        spot_weight: float = 0.4,
        niche_weight: float = 0.3,
        temperature: float = 0.07,
        learn_temperature: bool = True,
        max_scale: float = 100.0,
        other_slides: float = 1.0,
        chunk: int = CHUNK,
    ) -> None:
        super().__init__(spot_weight, niche_weight, temperature, learn_temperature, max_scale, other_slides, chunk)

    def contrast(
        self, level: int, a: Tensor, b: Tensor, pairs: Pairs, negatives: PairedNegatives | None, retrieval: Retrieval
    ) -> Contrast:
        return symmetric_info_nce(a, b, self.log_scale[level], pairs, retrieval)


class ThreeLevelSigmoidLoss(ThreeLevelObjective):
    """The sigmoid loss of SigLIP at every level (`pairwise_sigmoid`), with a learned scale and bias.

    Args: as of `ThreeLevelObjective`, and
        bias: at the start, of every level. SigLIP starts at -10, so that the many negatives cost little at first.
        learn_bias: one a level is a parameter.
    """

    def __init__(
        self,
        spot_weight: float = 0.4,
        niche_weight: float = 0.3,
        temperature: float = 0.1,
        learn_temperature: bool = True,
        max_scale: float = 100.0,
        bias: float = -10.0,
        learn_bias: bool = True,
        other_slides: float = 1.0,
        chunk: int = CHUNK,
    ) -> None:
        super().__init__(spot_weight, niche_weight, temperature, learn_temperature, max_scale, other_slides, chunk)
        self.bias = nn.Parameter(torch.full((len(CONTRASTS),), bias), requires_grad=learn_bias)

    def contrast(
        self, level: int, a: Tensor, b: Tensor, pairs: Pairs, negatives: PairedNegatives | None, retrieval: Retrieval
    ) -> Contrast:
        return pairwise_sigmoid(a, b, self.log_scale[level], self.bias[level], pairs, retrieval)

    def get_learned(self) -> dict[str, Tensor]:
        return {**super().get_learned(), "bias": self.bias.detach()}


class ThreeLevelPairedLoss(ThreeLevelObjective):
    """The authors' code: paired negatives, one from each other cluster of the anchor's slide (`paired_info_nce`).

    Needs data.clusters. Logged besides: `substitute_negatives` and `absent_negatives`, shares of the places for
    negatives for which the batch had no spot of the cluster, and no spot at all (`PairedNegatives.draw`).

    Args: as of `ThreeLevelObjective`, with the authors' values.
    """

    needs_clusters = True

    def __init__(
        self,
        spot_weight: float = 0.3,
        niche_weight: float = 0.3,
        temperature: float = 0.1,
        learn_temperature: bool = False,
        max_scale: float = 100.0,
        chunk: int = CHUNK,
    ) -> None:
        super().__init__(spot_weight, niche_weight, temperature, learn_temperature, max_scale, 0.0, chunk)

    def draw_negatives(self, pairs: Pairs) -> PairedNegatives:
        return PairedNegatives.draw(pairs)

    def contrast(
        self, level: int, a: Tensor, b: Tensor, pairs: Pairs, negatives: PairedNegatives | None, retrieval: Retrieval
    ) -> Contrast:
        chosen = self.draw_negatives(pairs) if negatives is None else negatives
        return paired_info_nce(a, b, self.log_scale[level], pairs, chosen, retrieval)
