"""Low-rank adapters: a linear layer that only looks, and a small one beside it that learns."""

from __future__ import annotations

import math

from torch import Tensor, nn

from stalign_pl.errors import ConfigError
from stalign_pl.models.dropout import SpotDropout


class LowRankLinear(nn.Module):
    """W x + b + alpha / rank * U D x (LoRA, Hu et al. 2021, arXiv 2106.09685); U starts at 0, so as `base` alone.

    Args:
        base: the layer, [in] -> [out].
        rank: of U [out, rank] and D [rank, in].
        alpha: gain of what is added, times rank.
        dropout: chance that an entry of the adapter's x is dropped.
    """

    def __init__(self, base: nn.Linear, rank: int, alpha: float, dropout: float) -> None:
        super().__init__()
        self.base = base
        self.gain = alpha / rank
        self.adapter = nn.Sequential(
            SpotDropout(dropout),
            nn.Linear(base.in_features, rank, bias=False),
            nn.Linear(rank, base.out_features, bias=False),
        )
        nn.init.kaiming_uniform_(self.adapter[1].weight, a=math.sqrt(5))
        nn.init.zeros_(self.adapter[2].weight)

    def forward(self, values: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        return self.base(values) + self.gain * self.adapter(values)

    @property
    def weight(self) -> Tensor:
        """[out, in], W + alpha / rank * U D: for attention that multiplies by its layer's weight itself (EVA, BEiT).

        Raises:
            ConfigError: with dropout, which such attention would leave out.
        """
        if self.adapter[0].p:
            raise ConfigError(
                f"trains: dropout is {self.adapter[0].p}, and this architecture's attention multiplies by the weight "
                f"of its layer itself, past the dropout of an adapter. Set it to 0"
            )
        return self._merged_weight()

    def _merged_weight(self) -> Tensor:
        return self.base.weight + self.gain * (self.adapter[2].weight @ self.adapter[1].weight)

    @property
    def bias(self) -> Tensor | None:
        """[out], the base's."""
        return self.base.bias

    def merged(self) -> nn.Linear:
        """One plain layer that says in eval mode what this one says."""
        layer = nn.Linear(self.base.in_features, self.base.out_features, bias=self.bias is not None)
        layer.to(self.base.weight)
        layer.load_state_dict({**self.base.state_dict(), "weight": self._merged_weight().detach()})
        return layer
