"""Gradient checkpointing of an image backbone: less memory, the same gradient."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import nn

from stalign_pl.errors import ConfigError
from stalign_pl.models.frozen import Frozen, has_train_mode_batchnorm


@runtime_checkable
class Recomputable(Protocol):
    """An architecture of timm's that offers gradient checkpointing."""

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Switch it on or off; raises AssertionError where the architecture cannot."""
        ...


def recompute(name: str, backbone: nn.Module) -> None:
    """Have timm compute each block again in the backward pass, instead of keeping its activations.

    Dropout draws the same both times: torch restores its generator, and the backward pass too runs in `keyed_dropout`.

    Args:
        name: of the encoder, for messages.
        backbone: changed in place; possibly in `Frozen`.

    Raises:
        ConfigError: a backbone without trainable parameters, an architecture that does not offer it, or one with
            BatchNorm in train mode, whose running statistics would count each batch twice.
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
    if not isinstance(backbone, Recomputable):
        raise ConfigError(unsupported)
    try:
        backbone.set_grad_checkpointing(True)
    except AssertionError as error:  # raised by architectures without it
        raise ConfigError(unsupported) from error
    if not any(getattr(part, "grad_checkpointing", False) for part in backbone.modules()):
        raise ConfigError(unsupported)
