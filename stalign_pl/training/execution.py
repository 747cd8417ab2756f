"""How the model is executed: compiled or not, in which memory format. Same embeddings up to rounding, same weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from stalign_pl.batch.features import Features
from stalign_pl.errors import ConfigError
from stalign_pl.models import STAlign


@dataclass(frozen=True)
class Execution:
    """What is done to the model before the first step.

    Attributes:
        compile: `torch.compile` the whole forward pass. The first step of each kind (training, evaluation) waits for
            it, minutes for large encoders.
        backend: inductor, or another compiler that torch lists here.
        channels_last: image encoders hold and take pixels channels last, as tensor cores want convolutions.

    Raises:
        ConfigError: a backend that torch does not know.
    """

    compile: bool = False
    backend: str = "inductor"
    channels_last: bool = False

    def __post_init__(self) -> None:
        if self.compile and self.backend not in (known := torch.compiler.list_backends()):
            raise ConfigError(f"model.execution.backend is {self.backend!r}; known here: {', '.join(known)}")


def prepare(model: STAlign, execution: Execution) -> None:
    """Apply `execution` to a model, in place: the same parameters, under the same keys of the state dict.

    A deep copy of a compiled model is not compiled.
    """
    if execution.channels_last:
        for stream in filter(None, (model.spot_image, model.niche_image)):
            stream.to(memory_format=torch.channels_last)
            stream.register_forward_pre_hook(_channels_last)
    if execution.compile:
        model.compile(backend=execution.backend)


def _channels_last(stream: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """The images among a stream's inputs, [B, C, H, W], in its memory format."""
    image, *rest = inputs
    return inputs if isinstance(image, Features) else (image.contiguous(memory_format=torch.channels_last), *rest)
