"""Checks that a model fits its objective, its micro-batches and its cached features."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from stalign_pl.errors import ConfigError
from stalign_pl.models import STAlign, get_encoder_tensors, has_train_mode_batchnorm
from stalign_pl.objectives import ThreeLevelObjective
from stalign_pl.objectives.three_level import CONTRASTS

FIXES = {
    "cross": "set objective.spot_weight and niche_weight to add up to 1",
    "spot": "set objective.spot_weight to 0",
    "niche": "set objective.niche_weight to 0",
}
"""Level of the objective -> how to train without it."""


def refuse_lacking_embeddings(model: STAlign, objective: ThreeLevelObjective) -> None:
    """Raise ConfigError if a level of the objective needs an embedding that the model lacks."""
    for level in objective.levels:
        absent = [name for name in CONTRASTS[level] if not model.has(name)]
        if absent:
            raise ConfigError(
                f"model.objective: the {level} loss contrasts {' with '.join(CONTRASTS[level])}, and the model has no "
                f"{' and no '.join(absent)} embedding (model.model: a stream or the fusion is null); {FIXES[level]}"
            )


def refuse_batchnorm(model: STAlign, micro_batch: int | None) -> None:
    """Raise ConfigError if BatchNorm in train mode would see the rows of a micro-batch only."""
    streams = [name for name, part in model.named_children() if has_train_mode_batchnorm(part, True)]
    if streams:
        raise ConfigError(
            f"model.micro_batch is {micro_batch}, with BatchNorm in train mode in model.model."
            f"{', '.join(streams)}: it would normalise by each micro-batch's rows, not by those of the batch. Take "
            f"an encoder with GroupNorm or LayerNorm, freeze it, or set model.micro_batch: null"
        )


def refuse_other_encoders(model: STAlign, streams: Iterable[str], weights: Mapping[str, Tensor]) -> None:
    """Raise ConfigError if a checkpoint's encoders have other weights than those whose features are cached.

    The cache is of the encoders as built; an encoder with random weights differs from that of another run.

    Args:
        model: as built.
        streams: those whose features are cached.
        weights: the checkpoint's state dict of the LightningModule.
    """
    for stream in streams:
        ours = get_encoder_tensors(getattr(model, stream))
        if any(not torch.equal(weights[f"model.{stream}.{key}"].cpu(), ours[key].cpu()) for key in ours):
            raise ConfigError(
                f"data.features holds the outputs of the frozen encoder of {stream} as this configuration builds it, "
                f"and the checkpoint has other weights of it. Set data.features: null, or give the "
                f"seed_everything and the weights that the checkpoint was trained with"
            )
