"""How the model runs: compiled or not, in which memory format. Embeddings stay the same up to rounding, weights too."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stalign_pl.batch.features import Features
from stalign_pl.errors import ConfigError
from stalign_pl.models import STAlign


@dataclass(frozen=True)
class Execution:
    """What is done to the model before the first step.

    Attributes:
        compile: run `torch.compile` on the whole forward pass. The first training step and the first evaluation step
            wait for it, minutes for large encoders.
        backend: inductor, or another compiler that torch lists here.
        channels_last: keep the image encoders' weights and pixels in channels-last format, which convolutions on tensor
            cores run fastest in.

    Raises:
        ConfigError: a backend that torch does not know.
    """

    compile: bool = False
    backend: str = "inductor"
    channels_last: bool = False

    def __post_init__(self) -> None:
        if self.compile and self.backend not in (known := torch.compiler.list_backends()):
            raise ConfigError(f"model.execution.backend is {self.backend!r}; known here: {', '.join(known)}")


def apply_execution(model: STAlign, execution: Execution) -> None:
    """Apply `execution` to a model, in place; parameters and the keys of the state dict stay the same.

    A deep copy of a compiled model is not compiled.
    """
    if execution.channels_last:
        for stream in filter(None, (model.spot_image, model.niche_image)):
            stream.to(memory_format=torch.channels_last)
            stream.register_forward_pre_hook(_to_channels_last)
    if execution.compile:
        model.compile(backend=execution.backend)


def _to_channels_last(stream: nn.Module, inputs: tuple[Tensor | Features, ...]) -> tuple[Tensor | Features, ...]:
    """Move a stream's images, [B, C, H, W], to channels-last format; cached features stay as they are."""
    image, *rest = inputs
    return inputs if isinstance(image, Features) else (image.contiguous(memory_format=torch.channels_last), *rest)
