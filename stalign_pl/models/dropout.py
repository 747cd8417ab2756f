"""Dropout whose mask can be a function of the spot: the same after a resume and on any number of processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from timm.layers.drop import DropBlock2d, DropPath
from timm.layers.patch_dropout import PatchDropout
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from stalign_pl.batch.row_keys import DROPOUT, RowKeys
from stalign_pl.models.compilation import run_uncompiled
from stalign_pl.models.frozen import Frozen

PROBABILITIES: dict[type[nn.Module], str] = {
    _DropoutNd: "p",
    DropPath: "drop_prob",
    DropBlock2d: "drop_prob",
    PatchDropout: "prob",
}
"""Layers that draw from torch's generator in train mode -> their attribute that holds the probability."""


class KeyedDropout(_DropoutNd):
    """Base of dropout layers whose mask can be drawn by row keys, see `keyed_dropout`.

    Attributes:
        stream: the layer's number in its model, see `number_dropouts`.
        keys: the rows of the current forward pass, or None for torch's generator.
    """

    stream: int = DROPOUT
    keys: RowKeys | None = None

    @property
    def keyed(self) -> bool:
        """Whether the next forward pass draws by keys."""
        return self.training and self.keys is not None and 0 < self.p < 1


class SpotDropout(KeyedDropout, nn.Dropout):
    """torch's dropout; within `keyed_dropout` a row's mask is drawn by (seed, epoch, spot, layer) instead."""

    def forward(self, input: Tensor) -> Tensor:
        """Return `input` [B, ...] with dropped entries 0, the others scaled; keyed, row i is row i of the keys."""
        return self._drop(input) if self.keyed else super().forward(input)

    @run_uncompiled  # a compiler would treat the keys' epoch as a constant and recompile in each
    def _drop(self, values: Tensor) -> Tensor:
        keys = self.keys
        if keys is None or len(values) != len(keys):
            raise ValueError(
                f"dropout of {len(values)} rows, within keyed_dropout of {0 if keys is None else len(keys)}"
            )
        dropped = keys.draw_events(self.p, self.stream, values[0].numel()).view(values.shape)
        return (values / (1 - self.p)).masked_fill(dropped, 0)


def number_dropouts(model: nn.Module) -> None:
    """Give each keyed dropout layer a random stream of its own, by its place in the model."""
    for number, layer in enumerate(_keyed_layers(model)):
        layer.stream = DROPOUT + number


@contextmanager
def keyed_dropout(model: nn.Module, keys: RowKeys | None) -> Iterator[None]:
    """Draw every keyed dropout layer of `model` by `keys` within the block; None changes nothing.

    A backward pass that computes parts again (`recompute`) must be within it too, with the keys of its forward pass.
    """
    layers = [] if keys is None else _keyed_layers(model)
    for layer in layers:
        layer.keys = keys
    try:
        yield
    finally:
        for layer in layers:
            layer.keys = None


def _keyed_layers(model: nn.Module) -> list[KeyedDropout]:
    return [layer for layer in model.modules() if isinstance(layer, KeyedDropout)]


def draws_from_generator(module: nn.Module) -> bool:
    """Whether a forward pass in train mode draws from torch's generator: other dropout, stochastic depth and the like.

    Such draws differ between processes, and so with their number. Frozen parts draw nothing.
    """
    if isinstance(module, KeyedDropout):
        return False
    if isinstance(module, Frozen):
        return any(draws_from_generator(part) for _, part, trainable in module.parts() if trainable)
    own = any(isinstance(module, kind) and getattr(module, name) > 0 for kind, name in PROBABILITIES.items())
    return own or any(draws_from_generator(child) for child in module.children())
