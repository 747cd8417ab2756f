"""Two small towers and a batch, whose loss several processes share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace

import torch
from torch import Tensor, nn

from stalign_pl.batch.spot_ids import SpotIds
from stalign_pl.objectives import ThreeLevelLoss, ThreeLevelPairedLoss, ThreeLevelSigmoidLoss
from stalign_pl.objectives.three_level import CONTRASTS, LossTerms
from tests.support.loss_reference import batch_ids

FEATURES = 6


LOCAL = 5


FIELDS = [field for pair in CONTRASTS.values() for field in pair]


LOSSES = {
    "info_nce": lambda **given: ThreeLevelLoss(temperature=0.3, **given),
    "sigmoid": lambda **given: ThreeLevelSigmoidLoss(temperature=0.3, bias=-1.5, **given),
    "paired": lambda **given: ThreeLevelPairedLoss(temperature=0.3, learn_temperature=True, **given),
}


class Towers(nn.Module):
    """Six linear towers and the loss, in float64."""

    def __init__(self, kind: str, options: Mapping[str, float]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.towers = nn.ModuleDict({field: nn.Linear(FEATURES, 4) for field in FIELDS})
        self.loss = LOSSES[kind](**options)
        self.double()

    def forward(self, features: Tensor, ids: SpotIds) -> LossTerms:
        return self.loss(SimpleNamespace(**{name: tower(features) for name, tower in self.towers.items()}), ids)


def global_batch(size: int, padding: Sequence[int]) -> tuple[Tensor, SpotIds]:
    generator = torch.Generator().manual_seed(7)
    features = torch.randn(size * LOCAL, FEATURES, generator=generator, dtype=torch.float64)
    return features, batch_ids(size * LOCAL, 7, padding=padding)


def outcome(model: nn.Module, terms: LossTerms) -> dict[str, dict[str, Tensor]]:
    terms.total.backward()
    values = {name: getattr(terms, name).detach() for name in ("total", "spot", "niche", "cross")}
    gradients = {name.removeprefix("module."): parameter.grad for name, parameter in model.named_parameters()}
    return {"values": values, "diagnostics": terms.diagnostics, "gradients": gradients}
