"""AdamW over what a module trains, and whether its fused kernel may take the step."""

from __future__ import annotations

import torch
from lightning.pytorch.plugins import MixedPrecision
from lightning.pytorch.plugins.precision import Precision
from torch import nn

from stalign_pl.errors import ConfigError
from stalign_pl.schedules import OptimizerConfig


def adamw(module: nn.Module, config: OptimizerConfig, fused: bool) -> torch.optim.AdamW:
    """timm's rule of what is decayed: matrices, not vectors. Each group says in `decays` whether it is.

    Raises:
        ConfigError: nothing is trained.
    """
    from timm.optim import param_groups_weight_decay

    groups = param_groups_weight_decay(module, weight_decay=config.weight_decay)
    groups = [{**group, "decays": group["weight_decay"] > 0} for group in groups if group["params"]]
    if not groups:
        raise ConfigError("nothing is trained: every encoder is frozen and the fusion has no parameters")
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, fused=fused)


def takes_fused(asked: bool | None, device: torch.device, precision: Precision, clips: bool) -> bool:
    """Whether AdamW is fused: as asked, by default on a GPU without mixed precision.

    Fused AdamW takes fp16's scale off by itself, too late for clipping and for a look at the gradient; Lightning
    refuses to clip for it under any mixed precision, bf16 included.

    Args:
        clips: whether gradients are clipped.

    Raises:
        ConfigError: asked for where it cannot be had.
    """
    mixed = isinstance(precision, MixedPrecision)
    if asked is None:
        return device.type == "cuda" and not mixed
    if asked and mixed and (clips or precision.scaler is not None):
        why = "scales the loss" if precision.scaler is not None else "with trainer.gradient_clip_val clips gradients"
        raise ConfigError(
            f"model.optimizer.fused: true, and trainer.precision {precision.precision} {why}, which wants gradients as "
            f"they are before the optimiser's step. Set model.optimizer.fused: null, or trainer.precision: 32-true"
        )
    return asked
