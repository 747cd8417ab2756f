"""Which part of a backbone is trainable: all of it, none, its last blocks, or low-rank adapters beside its layers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from timm.models._manipulate import group_with_matcher
from torch import nn

from stalign_pl.errors import ConfigError
from stalign_pl.models.frozen import Frozen
from stalign_pl.models.image.low_rank import LowRankLinear

ADAPTED = ("attn", "mlp")
"""timm's names of the parts of a block whose linear layers get adapters."""

_AFTER = "\0after"
"""A parameter name that no pattern matches: timm groups it with the layers after the blocks."""


@dataclass(frozen=True)
class LastBlocks:
    """Trains the last blocks and the layers after them.

    Attributes:
        last: how many blocks, at least 1, as timm groups them (24 of ViT-L, 16 of ResNet-50).
    """

    last: int


@dataclass(frozen=True)
class LowRank:
    """Trains adapters beside the linear layers of attention and MLP (`LowRankLinear`).

    Attributes:
        rank: at least 1.
        alpha: gain of the adapters, times rank; above 0.
        dropout: in [0, 1).
    """

    rank: int
    alpha: float = 16.0
    dropout: float = 0.0


Trains = Literal["all", "none"] | LastBlocks | LowRank


@runtime_checkable
class Grouped(Protocol):
    """An architecture whose blocks timm knows."""

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Return patterns that map parameter names to blocks."""
        ...


def select_trainable(name: str, backbone: nn.Module, trains: Trains, source: str | None) -> nn.Module:
    """Return the backbone, in `Frozen` unless all of it is trainable.

    Args:
        name: of the encoder, for messages.
        backbone: any encoder; blocks and adapters need one of timm's.
        trains: the trainable part.
        source: where the weights come from, see `Frozen`.

    Raises:
        ConfigError: numbers out of range, an architecture whose blocks timm does not know, or one without linear
            layers in attention or MLP.
    """
    if trains == "all":
        return backbone
    if isinstance(trains, LastBlocks):
        return Frozen(backbone, source, _name_last_blocks(name, backbone, trains.last))
    if isinstance(trains, LowRank):
        return Frozen(backbone, source, _add_adapters(name, backbone, trains))
    return Frozen(backbone, source)


def _group_blocks(name: str, backbone: nn.Module) -> tuple[list[list[str]], list[str]]:
    """Return the parameter names of each block, and of the layers after the last. The stem is left out."""
    if not isinstance(backbone, Grouped):
        raise ConfigError(f"image encoder {name!r}: timm knows no blocks of it. Set trains: all or none")
    names = [*(name for name, _ in backbone.named_parameters()), _AFTER]
    groups = group_with_matcher(((name, name) for name in names), backbone.group_matcher(coarse=False))
    after = next(number for number, group in groups.items() if _AFTER in group)
    return [groups[number] for number in range(1, after)], [name for name in groups[after] if name != _AFTER]


def _name_last_blocks(name: str, backbone: nn.Module, last: int) -> list[str]:
    """Return the parameter names of the last blocks and of the layers after them."""
    blocks, after = _group_blocks(name, backbone)
    if not 1 <= last <= len(blocks):
        raise ConfigError(f"image encoder {name!r}: trains.last is {last}; it has {len(blocks)} blocks, so 1 to that")
    return [*(name for block in blocks[-last:] for name in block), *after]


def _add_adapters(name: str, backbone: nn.Module, options: LowRank) -> list[str]:
    """Put adapters into the backbone; return their parameters' names."""
    if options.rank < 1 or options.alpha <= 0 or not 0 <= options.dropout < 1:
        raise ConfigError(
            f"image encoder {name!r}: trains has rank {options.rank}, alpha {options.alpha}, dropout "
            f"{options.dropout}; rank should be at least 1, alpha above 0, dropout in [0, 1)"
        )
    layers = list(_find_linear_layers(name, backbone))
    if not layers:
        raise ConfigError(
            f"image encoder {name!r}: trains.rank is {options.rank}, and its blocks have no linear layer in attention "
            f"or MLP to put an adapter beside. Set trains: all, none or {{last: N}}, or take a vision transformer"
        )
    for parent, child, layer in layers:
        adapted = LowRankLinear(layer, options.rank, options.alpha, options.dropout)
        setattr(backbone.get_submodule(parent), child, adapted)
    adapters = tuple(f"{parent}.{child}.adapter." for parent, child, _ in layers)
    return [name for name, _ in backbone.named_parameters() if name.startswith(adapters)]


def _find_linear_layers(name: str, backbone: nn.Module) -> Iterator[tuple[str, str, nn.Linear]]:
    """Yield (name of the parent, name in it, layer) of the linear layers of attention and MLP."""
    in_blocks = {name for block in _group_blocks(name, backbone)[0] for name in block}
    for path, layer in list(backbone.named_modules()):
        parent, _, child = path.rpartition(".")
        if (
            type(layer) is nn.Linear
            and f"{path}.weight" in in_blocks
            and not set(ADAPTED).isdisjoint(parent.split("."))
        ):
            yield parent, child, layer
