"""Which parts of a model are frozen and which trainable, and whether BatchNorm normalises by one rank's rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


@dataclass(frozen=True)
class Source:
    """Where an encoder's weights can be fetched.

    Attributes:
        name: on the hub, or path of a file or folder of this machine.
        on_hub: which of the two.
    """

    name: str
    on_hub: bool


class Frozen(nn.Module):
    """Freezes a module except the named parameters; frozen parts get no gradient and stay in eval mode.

    A part all of whose parameters are trainable follows `train()`; one with none stays in eval mode, its BatchNorm
    statistics and dropout included; of a mixture each child is decided by itself. Where nothing is trainable, the
    forward pass runs under no_grad.

    Args:
        module: any module; its other parameters lose `requires_grad`.
        source: where its weights can be fetched again (a hub name, a file), or None where only a checkpoint holds
            them, as with random weights. `find_frozen_prefixes` lists only those with a source.
        learning: names of the trainable parameters; none by default.
    """

    def __init__(self, module: nn.Module, source: str | None = None, learning: Iterable[str] = ()) -> None:
        super().__init__()
        self.module = module
        self.source = source
        self.learning = frozenset(learning)
        for name, parameter in module.named_parameters():
            parameter.requires_grad_(name in self.learning)
        self.train()

    def train(self, mode: bool = True) -> Frozen:
        """Set the mode of the trainable parts; the frozen ones stay in eval mode."""
        super().train(mode and bool(self.learning))
        for _, part, trainable in self.parts():
            if not trainable:
                part.train(False)
        return self

    def forward(self, *args: object, **kwargs: object) -> Tensor:
        """Return the module's output, without gradient where nothing is trainable."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and bool(self.learning)):
            return self.module(*args, **kwargs)

    def parts(self) -> Iterator[tuple[str, nn.Module, bool]]:
        """Yield the largest parts of `module` that are trainable or frozen as a whole: (prefix, part, trainable)."""
        return _split(self.module, "", self.learning)

    @property
    def looking(self) -> tuple[str, ...]:
        """Prefixes of the state-dict keys of `module` that are frozen; a single parameter is its own prefix."""
        parts = tuple(prefix for prefix, _, trainable in self.parts() if not trainable)
        names = (name for name, _ in self.module.named_parameters() if name not in self.learning)
        return (*parts, *(name for name in names if not name.startswith(parts)))


def _split(module: nn.Module, prefix: str, learning: frozenset[str]) -> Iterator[tuple[str, nn.Module, bool]]:
    trainable = {f"{prefix}{name}" in learning for name, _ in module.named_parameters()}
    if len(trainable) == 2:
        for name, child in module.named_children():
            yield from _split(child, f"{prefix}{name}.", learning)
    else:
        yield prefix, module, trainable == {True}


def find_frozen_prefixes(model: nn.Module) -> tuple[str, ...]:
    """Return prefixes of the state-dict keys that a checkpoint may leave out, because the weights have a source.

    Frozen random weights have no source: they are not listed, and so are kept.
    """
    return tuple(
        (f"{name}." if name else "") + (f"module.{prefix}" if prefix else "")
        for name, module in model.named_modules()
        if isinstance(module, Frozen) and module.source is not None
        for prefix in module.looking
    )


def has_train_mode_batchnorm(module: nn.Module, synchronised: bool = False) -> bool:
    """Whether any BatchNorm in `module` is in train mode.

    Such a layer normalises by the rank's own rows: the result depends on the number of processes and on padding rows.
    Ask before evaluation: a model in eval mode has none.

    Args:
        module: searched with all its parts.
        synchronised: SyncBatchNorm counts, too.
    """
    return any(
        isinstance(layer, _BatchNorm) and layer.training and (synchronised or not isinstance(layer, nn.SyncBatchNorm))
        for layer in module.modules()
    )
