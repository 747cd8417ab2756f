"""Gradient checkpointing of an image backbone: less memory, the same gradient."""

from __future__ import annotations

from torch import nn

from stalign_pl.errors import ConfigError
from stalign_pl.models.frozen import Frozen, has_train_mode_batchnorm


def recompute(name: str, backbone: nn.Module) -> None:
    """Have timm compute each block again in the backward pass, instead of keeping what is inside it.

    Dropout draws alike both times: torch restores its generator, and `keyed_dropout` is to hold in the backward pass.

    Args:
        name: for messages.

    Raises:
        ConfigError: a backbone that has no backward pass, an architecture that cannot, or one with BatchNorm in
            training, whose running statistics would count each batch twice.
    """
    wanted = f"image encoder {name!r}: gradient_checkpointing is true"
    if isinstance(backbone, Frozen):
        if not backbone.learning:
            raise ConfigError(f"{wanted}, and with trains: none nothing is kept for a backward pass. Set it to false")
        return recompute(name, backbone.module)
    if has_train_mode_batchnorm(backbone, synchronised=True):
        raise ConfigError(
            f"{wanted}, with BatchNorm in training: its running statistics would count each batch twice. Take an "
            f"encoder with GroupNorm or LayerNorm, set trains: none, or gradient_checkpointing: false"
        )
    unsupported = f"{wanted}, which timm does not offer for {type(backbone).__name__}. Set it to false"
    if not hasattr(backbone, "set_grad_checkpointing"):
        raise ConfigError(unsupported)
    try:
        backbone.set_grad_checkpointing(True)
    except AssertionError as error:  # how timm's architectures say that they cannot
        raise ConfigError(unsupported) from error
    if not any(getattr(part, "grad_checkpointing", False) for part in backbone.modules()):
        raise ConfigError(unsupported)
