"""Output of one evaluation step: a model's embeddings of a batch, as the callbacks take them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from stalign_pl.batch.features import Features
from stalign_pl.batch.inputs import StepInputs
from stalign_pl.models import STAlign, TimmStream


@dataclass(frozen=True)
class EvaluatedBatch:
    """A model's embeddings of one evaluation batch, detached, float32. A field is None if the model lacks the part.

    Attributes:
        slide: int64 [B], the rows' slide numbers.
        spot: int64 [B], the rows' spot indices.
        valid: bool [B], False in rows that are padding.
        niche: [B, D], fused niche embedding; spatial domains are clustered from it.
        spot_fused: [B, D], fused spot embedding.
        image: [B, 2 * dim], spot and niche image embeddings side by side; genes are predicted from it. [B, dim] if the
            model has only one of the two.
        spot_pair: [B, 2 * dim], the spot's image and gene embeddings, each of unit length: the input for clustering
            where a model has no fusion.
        niche_pair: as `spot_pair`, of the niche.
        spot_features: [B, F], pooled features of the spot image encoder; of the untrained model only.
        niche_features: as `spot_features`, of the niche image encoder.
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
class EvaluationStep(Mapping[str, EvaluatedBatch | None]):
    """Embeddings that an evaluation step gives to the callbacks. A mapping, as Lightning takes from a step.

    Attributes:
        trained: of the model; None before training.
        untrained: of the model as it was built, a baseline; None while training.
    """

    trained: EvaluatedBatch | None
    untrained: EvaluatedBatch | None

    def __getitem__(self, name: str) -> EvaluatedBatch | None:
        return vars(self)[name]

    def __iter__(self) -> Iterator[str]:
        return iter(vars(self))

    def __len__(self) -> int:
        return len(vars(self))


def embed_batch(model: STAlign, inputs: StepInputs, features: bool) -> EvaluatedBatch:
    """Embed a batch.

    Args:
        model: in eval mode.
        inputs: B rows.
        features: also return the image encoders' pooled features.
    """
    embeddings = model(inputs.model)
    image = [part for part in (embeddings.spot_image, embeddings.niche_image) if part is not None]
    return EvaluatedBatch(
        slide=inputs.ids.slide,
        spot=inputs.ids.spot,
        valid=inputs.ids.valid,
        niche=_to_float32(embeddings.niche),
        spot_fused=_to_float32(embeddings.spot),
        image=torch.cat(image, dim=1).float() if image else None,
        spot_pair=_join_pair(embeddings.spot_image, embeddings.spot_gene),
        niche_pair=_join_pair(embeddings.niche_image, embeddings.niche_gene),
        spot_features=_pool(model.spot_image, inputs.model.spot_image) if features else None,
        niche_features=_pool(model.niche_image, inputs.model.niche_image) if features else None,
    )


def _pool(stream: TimmStream | None, image: Tensor | Features | None) -> Tensor | None:
    """Pooled features [B, F], float32; None without the stream or its input."""
    return None if stream is None or image is None else stream.features(image).float()


def _join_pair(image: Tensor | None, gene: Tensor | None) -> Tensor | None:
    """[B, 2 * dim] float32, each half of unit length; None if either is missing."""
    if image is None or gene is None:
        return None
    return torch.cat([normalize(image.float(), dim=1), normalize(gene.float(), dim=1)], dim=1)


def _to_float32(embedding: Tensor | None) -> Tensor | None:
    return None if embedding is None else embedding.float()
