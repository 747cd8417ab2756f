"""What the model returns for a batch."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Embeddings:
    """What the model says of a batch of spots, not normalised: unimodal [B, dim], fused [B, out of the fusion].

    None is what the model has no part for, what was not asked for, or what lacks its input.
    """

    spot_image: Tensor | None
    spot_gene: Tensor | None
    niche_image: Tensor | None
    niche_gene: Tensor | None
    spot: Tensor | None
    niche: Tensor | None
