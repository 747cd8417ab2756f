"""What an evaluation pass says of a batch: a model's embeddings, as the callbacks take them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from stalign_pl.batch.inputs import StepInputs
from stalign_pl.models import STAlign


@dataclass(frozen=True)
class Evaluated:
    """A model's view of one evaluation batch; all detached, fp32.

    Attributes:
        slide, spot: int64 [B]. valid: bool [B].
        niche: [B, D] fused niche embedding: what spatial domains are read from.
        spot_fused: [B, D] fused spot embedding.
        image: [B, 2 * dim] spot and niche image embedding: what genes are predicted from. [B, dim] where the model has
            one of them.
        spot_pair, niche_pair: [B, 2 * dim] a scale's image and gene embedding, each of unit length: what a model
            without fusion would be clustered by.
        spot_features, niche_features: [B, F] the image encoders' own pooled features; of the untrained model only.

    What the model has no part for is None.
    """

    slide: Tensor
    spot: Tensor
    valid: Tensor
    niche: Tensor | None
    spot_fused: Tensor | None
    image: Tensor | None
    spot_pair: Tensor | None
    niche_pair: Tensor | None
    spot_features: Tensor | None = None
    niche_features: Tensor | None = None


@dataclass(frozen=True)
class EvaluationStep:
    """What an evaluation step hands to the callbacks: the model's view, the untrained model's (a floor), or both."""

    trained: Evaluated | None
    untrained: Evaluated | None


def evaluated(model: STAlign, inputs: StepInputs, features: bool) -> Evaluated:
    """Embed a batch with `model`; `features` adds the image encoders' own."""
    embeddings = model(inputs.model)
    image = [part for part in (embeddings.spot_image, embeddings.niche_image) if part is not None]
    streams = ((model.spot_image, inputs.model.spot_image), (model.niche_image, inputs.model.niche_image))
    seen = [stream.features(shown) if features and stream is not None else None for stream, shown in streams]
    return Evaluated(
        slide=inputs.ids.slide,
        spot=inputs.ids.spot,
        valid=inputs.ids.valid,
        niche=_fp32(embeddings.niche),
        spot_fused=_fp32(embeddings.spot),
        image=torch.cat(image, dim=1).float() if image else None,
        spot_pair=_pair(embeddings.spot_image, embeddings.spot_gene),
        niche_pair=_pair(embeddings.niche_image, embeddings.niche_gene),
        spot_features=_fp32(seen[0]),
        niche_features=_fp32(seen[1]),
    )


def _pair(image: Tensor | None, gene: Tensor | None) -> Tensor | None:
    """[B, 2 * dim] float32; None without either."""
    if image is None or gene is None:
        return None
    return torch.cat([F.normalize(image.float(), dim=1), F.normalize(gene.float(), dim=1)], dim=1)


def _fp32(embedding: Tensor | None) -> Tensor | None:
    return None if embedding is None else embedding.float()
