"""AdamW over a module's trainable parameters; learning rate and weight decay as functions of the step alone.

torch's SequentialLR of LinearLR and CosineAnnealingLR does not serve: it computes each rate from the one before, so a
rate cannot be computed from its step, and weight decay, which needs the same curve, is not scheduled by it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from lightning.pytorch.plugins import MixedPrecision
from lightning.pytorch.plugins.precision import Precision
from torch import nn

from stalign_pl.errors import ConfigError


def make_adamw(module: nn.Module, config: OptimizerConfig, fused: bool) -> torch.optim.AdamW:
    """Build AdamW. By timm's rule matrices are decayed and vectors are not; a group's `decays` is whether it is.

    Args:
        module: its trainable parameters are optimised.
        config: rates and decays at the first step.
        fused: use the fused kernel.

    Raises:
        ConfigError: nothing is trained.
    """
    from timm.optim import param_groups_weight_decay  # pyright: ignore[reportPrivateImportUsage] # timm documents it

    groups = param_groups_weight_decay(module, weight_decay=config.weight_decay)
    groups = [{**group, "decays": group["weight_decay"] > 0} for group in groups if group["params"]]
    if not groups:
        raise ConfigError("nothing is trained: every encoder is frozen and the fusion has no parameters")
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, fused=fused)


def choose_fused(asked: bool | None, device: torch.device, precision: Precision, clips: bool) -> bool:
    """Whether to use fused AdamW: as asked, by default on a GPU without mixed precision.

    Fused AdamW removes fp16's loss scale inside its step, too late for clipping and for checks of the gradient;
    Lightning refuses to clip for it under any mixed precision, bf16 included.

    Args:
        asked: the user's choice; None takes the default.
        device: of the parameters.
        precision: the trainer's.
        clips: whether gradients are clipped.

    Raises:
        ConfigError: fused AdamW is asked for together with a scaled loss or with clipping under mixed precision.
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


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW as the paper uses it: cosine learning rate, weight decay rising 0.04 -> 0.4 along a cosine.

    Attributes:
        lr: peak learning rate.
        final_lr: learning rate at the last step.
        warmup: share of the steps, in [0, 1), in which the rate rises linearly from 0.
        weight_decay: at the first step; norms, biases and other vectors are not decayed.
        final_weight_decay: at the last step.
        betas: decay rates of AdamW's running means of the gradient and of its square.
        reference_batch: the global batch, in spots, that `lr` is meant for: the peak is then lr x batch /
            reference_batch (Goyal et al. 2017, arXiv 1706.02677; the authors' code has 256). null never rescales.
        fused: use AdamW's fused kernel; null uses it on a GPU without mixed precision.

    Raises:
        ConfigError: a rate, the warm-up or the reference batch is out of range.
    """

    lr: float = 5e-4
    final_lr: float = 1e-6
    warmup: float = 0.05
    weight_decay: float = 0.04
    final_weight_decay: float = 0.4
    betas: tuple[float, float] = (0.9, 0.95)
    reference_batch: int | None = None
    fused: bool | None = None

    def __post_init__(self) -> None:
        if self.lr <= 0 or not 0 <= self.final_lr <= self.lr:
            raise ConfigError(
                f"optimizer: lr is {self.lr}, final_lr {self.final_lr}; should be 0 <= final_lr <= lr, lr > 0"
            )
        if not 0 <= self.warmup < 1:
            raise ConfigError(f"optimizer.warmup is {self.warmup}; it is a share of the steps, in [0, 1)")
        if self.reference_batch is not None and self.reference_batch < 1:
            raise ConfigError(f"optimizer.reference_batch is {self.reference_batch}; spots, at least 1, or null")

    def for_batch(self, batch: int) -> OptimizerConfig:
        """Return the settings with the peak rate for a global batch of `batch` spots; `final_lr` stays."""
        if self.reference_batch is None:
            return self
        return replace(self, lr=self.lr * batch / self.reference_batch, reference_batch=None)


def interpolate_cosine(start: float, end: float, step: int, steps: int) -> float:
    """Return the value at `step` of half a cosine from `start` at step 0 to `end` at the last of `steps` steps."""
    progress = min(max(step / max(steps - 1, 1), 0.0), 1.0)
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2


def compute_learning_rate(config: OptimizerConfig, step: int, steps: int) -> float:
    """Return the learning rate at `step` of `steps`: linear warm-up, then cosine."""
    warmup = round(config.warmup * steps)
    if step < warmup:
        return config.lr * (step + 1) / (warmup + 1)
    return interpolate_cosine(config.lr, config.final_lr, step - warmup, steps - warmup)


def compute_weight_decay(config: OptimizerConfig, step: int, steps: int) -> float:
    """Return the weight decay at `step` of `steps`: cosine."""
    return interpolate_cosine(config.weight_decay, config.final_weight_decay, step, steps)
