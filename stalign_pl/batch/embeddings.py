"""Output of the model for a batch."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Embeddings:
    """Embeddings of a batch of spots, not normalised.

    A field is None if the model lacks that stream, it was not requested, or its input is missing.

    Attributes:
        spot_image: float [B, dim].
        spot_gene: float [B, dim].
        niche_image: float [B, dim].
        niche_gene: float [B, dim].
        spot: float [B, width of the fusion], of picture and genes.
        niche: as `spot`, of the niche.
    """

    spot_image: Tensor | None
    spot_gene: Tensor | None
    niche_image: Tensor | None
    niche_gene: Tensor | None
    spot: Tensor | None
    niche: Tensor | None
