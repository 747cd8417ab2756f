"""Inputs of the model, and of a step of training or evaluation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stalign_pl.batch.features import Features
from stalign_pl.batch.spot_ids import SpotIds


@dataclass(frozen=True)
class ModelInputs:
    """Input of `STAlign.forward` for B spots; None where there is none.

    Attributes:
        spot_image: float32 [B, 3, size, size] in [0, 1], or a frozen encoder's cached features.
        spot_genes: float32 [B, G], log1p of scaled counts, not standardised, 0 where not measured; or features.
        niche_image: as `spot_image`, of the niche.
        niche_genes: as `spot_genes`, of the niche.
        measured: bool [B, G], genes that the spot's slide measured; False also where augmentation hides a gene.
    """

    spot_image: Tensor | Features | None = None
    spot_genes: Tensor | Features | None = None
    niche_image: Tensor | Features | None = None
    niche_genes: Tensor | Features | None = None
    measured: Tensor | None = None

    def __getitem__(self, rows: slice | Tensor) -> ModelInputs:
        """Select rows."""
        return ModelInputs(**{name: None if value is None else value[rows] for name, value in vars(self).items()})

    def to(self, device: torch.device | str) -> ModelInputs:
        """Copy to a device."""
        return ModelInputs(**{name: None if value is None else value.to(device) for name, value in vars(self).items()})

    def of(self, stream: str) -> tuple[Tensor | Features | None, ...]:
        """Arguments of one of the model's streams.

        Args:
            stream: its name in `STREAMS`.
        """
        if stream.endswith("_image"):
            return (getattr(self, stream),)
        return getattr(self, f"{stream.removesuffix('_gene')}_genes"), self.measured


@dataclass(frozen=True)
class GeneTargets:
    """Targets of gene regression: expression as measured, genes that augmentation hides from the model included.

    Attributes:
        spot: float [B, G], log1p of scaled counts, not standardised.
        niche: as `spot`, of the niche.
        measured: bool [B, G], genes that the row's slide measured; others have no effect.
    """

    spot: Tensor
    niche: Tensor
    measured: Tensor


@dataclass(frozen=True)
class StepInputs:
    """Input of one step of training or evaluation.

    Attributes:
        model: input of the model.
        ids: which spots the rows are.
        targets: of gene regression.
    """

    model: ModelInputs
    ids: SpotIds
    targets: GeneTargets
