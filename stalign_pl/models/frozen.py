"""Which parts of a model learn and which only look: frozen encoders, and BatchNorm that sees its own rank alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class Frozen(nn.Module):
    """A module that only looks: stays in eval mode under `train()`, has no gradient and runs under no_grad.

    Args:
        module: any module; its parameters lose `requires_grad`.
        source: where its weights can be had again (a hub name, a file), or None where only a checkpoint holds them,
            as with random weights. `frozen_prefixes` lists only those with a source.
    """

    def __init__(self, module: nn.Module, source: str | None = None) -> None:
        super().__init__()
        self.module = module.requires_grad_(False)
        self.source = source
        self.train(False)

    def train(self, mode: bool = True) -> Frozen:
        """Stay in eval mode whatever `mode` is: BatchNorm statistics and dropout are part of what is frozen."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        return self.module(*args, **kwargs)


def frozen_prefixes(model: nn.Module) -> tuple[str, ...]:
    """Prefixes of the state-dict keys that a checkpoint may leave out, because the weights come from a source.

    Frozen random weights have no source: they are not listed, and so are kept.
    """
    return tuple(
        f"{name}." if name else ""
        for name, module in model.named_modules()
        if isinstance(module, Frozen) and module.source is not None
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
