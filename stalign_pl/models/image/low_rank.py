"""Low-rank adapters: a frozen linear layer, and a small trainable one beside it."""

from __future__ import annotations

import math
from typing import cast

from torch import Tensor, nn

from stalign_pl.errors import ConfigError
from stalign_pl.models.dropout import SpotDropout


class LowRankLinear(nn.Module):
    """W x + b + alpha / rank * U D x (LoRA, Hu et al. 2021, arXiv 2106.09685); U starts at 0, hence equal to `base`.

    Args:
        base: the layer, [in] -> [out].
        rank: of U [out, rank] and D [rank, in].
        alpha: gain of the adapter, times rank.
        dropout: probability that an entry of the adapter's x is dropped.
    """

    def __init__(self, base: nn.Linear, rank: int, alpha: float, dropout: float) -> None:
        super().__init__()
        self.base = base
        self.gain = alpha / rank
        down = nn.Linear(base.in_features, rank, bias=False)
        up = nn.Linear(rank, base.out_features, bias=False)
        self.adapter = nn.Sequential(SpotDropout(dropout), down, up)
        nn.init.kaiming_uniform_(down.weight, a=math.sqrt(5))
        nn.init.zeros_(up.weight)

    def forward(self, values: Tensor) -> Tensor:
        """Return [..., out] of `values` [..., in]."""
        return self.base(values) + self.gain * self.adapter(values)

    @property
    def weight(self) -> Tensor:
        """[out, in], W + alpha / rank * U D: for attention that multiplies by its layer's weight itself (EVA, BEiT).

        Raises:
            ConfigError: the adapter has dropout, which such attention would skip.
        """
        if self.adapter[0].p:
            raise ConfigError(
                f"trains: dropout is {self.adapter[0].p}, and this architecture's attention multiplies by the weight "
                f"of its layer itself, past the dropout of an adapter. Set it to 0"
            )
        return self._merge_weight()

    def _merge_weight(self) -> Tensor:
        down, up = cast(nn.Linear, self.adapter[1]), cast(nn.Linear, self.adapter[2])
        return self.base.weight + self.gain * (up.weight @ down.weight)

    @property
    def bias(self) -> Tensor | None:
        """[out], the base's."""
        return self.base.bias

    def merge(self) -> nn.Linear:
        """Return one plain layer with the same output as this one in eval mode."""
        layer = nn.Linear(self.base.in_features, self.base.out_features, bias=self.bias is not None)
        layer.to(self.base.weight)
        layer.load_state_dict({**self.base.state_dict(), "weight": self._merge_weight().detach()})
        return layer
