"""Dropout whose mask can be a function of the spot: the same after a resume and on any number of processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import timm.layers
import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from stalign_pl.batch.row_keys import DROPOUT, RowKeys
from stalign_pl.models.frozen import Frozen


class SpotDropout(nn.Dropout):
    """torch's dropout; within `keyed_dropout` a row's mask is drawn by (seed, epoch, spot, layer) instead.

    Attributes:
        stream: the layer's number in its model, see `number_dropouts`.
        keys: the rows of the current forward, or None for torch's generator.
    """

    stream: int = DROPOUT
    keys: RowKeys | None = None

    @property
    def keyed(self) -> bool:
        """Whether the next forward draws by keys."""
        return self.training and self.keys is not None and 0 < self.p < 1

    def forward(self, values: Tensor) -> Tensor:
        """[B, ...] -> [B, ...]; keyed, row i of `values` is row i of the keys."""
        return self._drop(values) if self.keyed else super().forward(values)

    @torch.compiler.disable  # a compiler would take the keys' epoch for a constant, and compile anew in each
    def _drop(self, values: Tensor) -> Tensor:
        if len(values) != len(self.keys):
            raise ValueError(f"dropout of {len(values)} rows, within keyed_dropout of {len(self.keys)}")
        dropped = self.keys.happens(self.p, self.stream, values[0].numel()).view(values.shape)
        return (values / (1 - self.p)).masked_fill(dropped, 0)


def number_dropouts(model: nn.Module) -> None:
    """Give each SpotDropout a stream of its own, by its place in the model."""
    layers = [layer for layer in model.modules() if isinstance(layer, SpotDropout)]
    for number, layer in enumerate(layers):
        layer.stream = DROPOUT + number


@contextmanager
def keyed_dropout(model: nn.Module, keys: RowKeys | None) -> Iterator[None]:
    """Within it every SpotDropout of `model` draws by `keys`; None changes nothing.

    A backward pass that computes parts again (`recompute`) must be within it too, with the keys of its forward pass.
    """
    layers = [] if keys is None else [layer for layer in model.modules() if isinstance(layer, SpotDropout)]
    for layer in layers:
        layer.keys = keys
    try:
        yield
    finally:
        for layer in layers:
            layer.keys = None


def draws_from_generator(module: nn.Module) -> bool:
    """Whether a forward in train mode draws from torch's generator: dropout, stochastic depth and the like of others.

    Such draws differ between processes, and so with their number. Frozen parts draw nothing.
    """
    if isinstance(module, SpotDropout):
        return False
    if isinstance(module, Frozen):
        return any(draws_from_generator(part) for _, part, learns in module.parts() if learns)
    chances = {_DropoutNd: "p", timm.layers.DropPath: "drop_prob", timm.layers.DropBlock2d: "drop_prob"}
    chances[timm.layers.PatchDropout] = "prob"
    own = any(isinstance(module, kind) and getattr(module, chance) > 0 for kind, chance in chances.items())
    return own or any(draws_from_generator(child) for child in module.children())
