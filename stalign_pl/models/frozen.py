"""Which parts of a model learn and which only look: frozen encoders, and BatchNorm that sees its own rank alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


@dataclass(frozen=True)
class Source:
    """Where an encoder's weights can be had: a name on the hub, or a file or folder of this machine."""

    name: str
    on_hub: bool


class Frozen(nn.Module):
    """A module that only looks, but for parameters named: what looks has no gradient and stays in eval mode.

    A part all of whose parameters learn follows `train()`; one of which none does stays in eval mode, its BatchNorm
    statistics and dropout included; of a mixture each part goes its own way. Where nothing learns, the forward pass
    runs under no_grad.

    Args:
        module: any module; its other parameters lose `requires_grad`.
        source: where its weights can be had again (a hub name, a file), or None where only a checkpoint holds them,
            as with random weights. `frozen_prefixes` lists only those with a source.
        learning: names of the parameters that learn; none by default.
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
        """Set the mode of what learns; the rest stays in eval mode."""
        super().train(mode and bool(self.learning))
        for _, part, learns in self.parts():
            if not learns:
                part.train(False)
        return self

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        with torch.set_grad_enabled(torch.is_grad_enabled() and bool(self.learning)):
            return self.module(*args, **kwargs)

    def parts(self) -> Iterator[tuple[str, nn.Module, bool]]:
        """The largest parts of `module` of which every parameter learns or none: (prefix, part, whether it learns)."""
        return _parts(self.module, "", self.learning)

    @property
    def looking(self) -> tuple[str, ...]:
        """Prefixes of the keys of `module` that never change; a parameter that stands alone is its own prefix."""
        parts = tuple(prefix for prefix, _, learns in self.parts() if not learns)
        names = (name for name, _ in self.module.named_parameters() if name not in self.learning)
        return (*parts, *(name for name in names if not name.startswith(parts)))


def _parts(module: nn.Module, prefix: str, learning: frozenset[str]) -> Iterator[tuple[str, nn.Module, bool]]:
    learns = {f"{prefix}{name}" in learning for name, _ in module.named_parameters()}
    if len(learns) == 2:
        for name, child in module.named_children():
            yield from _parts(child, f"{prefix}{name}.", learning)
    else:
        yield prefix, module, learns == {True}


def frozen_prefixes(model: nn.Module) -> tuple[str, ...]:
    """Prefixes of the state-dict keys that a checkpoint may leave out, because the weights come from a source.

    Frozen random weights have no source: they are not listed, and so are kept.
    """
    return tuple(
        (f"{name}." if name else "") + (f"module.{looking}" if looking else "")
        for name, module in model.named_modules()
        if isinstance(module, Frozen) and module.source is not None
        for looking in module.looking
    )


def has_train_mode_batchnorm(module: nn.Module, synchronised: bool = False) -> bool:
    """Whether any BatchNorm in `module` is in train mode; one that is synchronised counts only if asked for.

    Such a layer normalises by the rank's own rows: the result depends on the number of processes (first loss off by
    .1, measured) and on padding rows. Ask before evaluation: a model in eval mode has none.
    """
    return any(
        isinstance(layer, _BatchNorm) and layer.training and (synchronised or not isinstance(layer, nn.SyncBatchNorm))
        for layer in module.modules()
    )
