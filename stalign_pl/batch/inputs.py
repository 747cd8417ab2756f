"""What the model and the loss take of a batch."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from stalign_pl.batch.features import Features
from stalign_pl.batch.spot_ids import SpotIds


@dataclass(frozen=True)
class GeneTargets:
    """Expression as it was measured, genes that augmentation hides from the model included.

    Attributes:
        spot, niche: float [b, G], log1p of scaled counts, not standardised.
        measured: bool [b, G], genes that the row's slide measured; others have no effect.
    """

    spot: Tensor
    niche: Tensor
    measured: Tensor


@dataclass(frozen=True)
class ModelInputs:
    """What the model and the loss take.

    Attributes:
        ids: who the rows are.
        spot_image, niche_image: float32 [B, 3, size, size] in [0, 1], or the encoder's features where they are cached.
        spot_genes, niche_genes: float32 [B, G], log1p of scaled counts; 0 where not measured; or features.
        measured: bool [B, G]; False also where augmentation hides a gene.
        targets: the same expression with nothing hidden, for gene regression.
    """

    ids: SpotIds
    spot_image: Tensor | Features
    spot_genes: Tensor | Features
    niche_image: Tensor | Features
    niche_genes: Tensor | Features
    measured: Tensor
    targets: GeneTargets

    def of(self, stream: str) -> tuple[Tensor | Features, ...]:
        """What a stream of the model takes."""
        scale, kind = stream.split("_")
        if kind == "image":
            return (getattr(self, stream),)
        return getattr(self, f"{scale}_genes"), self.measured
