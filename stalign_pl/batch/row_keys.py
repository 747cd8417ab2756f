"""Random numbers of a batch's rows, on their device: a pure function of (seed, epoch, slide, spot, stream).

The same numbers as `stalign_pl.draws.draw_uniform`, in whole-number arithmetic on tensors: for gene masks and
dropout, whose draws are too many to be sent from the host.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stalign_pl.draws import FIRST, GOLDEN, SECOND, start_draws

GENE_MASK = 2
DROPOUT = 16
"""Streams of draws: pictures' augmentation has 1; dropout layers have DROPOUT and the numbers after it."""

_MODULUS = 2**64


@dataclass(frozen=True)
class RowKeys:
    """Keys of a batch's rows for drawing random numbers.

    Attributes:
        seed: of the run.
        epoch: 0 or more.
        slide: int64 [B], slide numbers, 0 or more.
        spot: int64 [B], spot indices, 0 or more.
    """

    seed: int
    epoch: int
    slide: Tensor
    spot: Tensor

    def __len__(self) -> int:
        return len(self.slide)

    def draw_events(self, chance: float, stream: int, draws: int) -> Tensor:
        """Draw events: `draws.uniform(...) < chance`.

        Args:
            chance: probability of each, in steps of 2^-24.
            stream: number of the stream of draws.
            draws: numbers a row.

        Returns:
            bool [B, draws].
        """
        return self._bits(stream, draws) < round(chance * 2**24)

    def _bits(self, stream: int, draws: int) -> Tensor:
        """int64 [B, draws], uniform on 0 to 2^24 - 1."""
        state = torch.full_like(self.slide, _signed(start_draws(self.seed, self.epoch, stream)))
        for column in (self.slide, self.spot):
            state = _mix(state + _signed(GOLDEN) * (column + 1))
        counter = torch.arange(1, draws + 1, device=state.device)
        return _shift(_mix(state[:, None] + _signed(GOLDEN) * counter), 40)


def _signed(value: int) -> int:
    """The int64 with the bits of a uint64."""
    return value - _MODULUS if value >= _MODULUS // 2 else value


def _shift(value: Tensor, bits: int) -> Tensor:
    """Shift right and fill with zeros: an int64's own shift copies its sign."""
    return (value >> bits).bitwise_and_(2 ** (64 - bits) - 1)


def _mix(value: Tensor) -> Tensor:
    """As `draws.mix_bits`, on int64: products wrap, which is arithmetic modulo 2^64."""
    value = _shift(value, 30).bitwise_xor_(value).mul_(_signed(FIRST))
    value = _shift(value, 27).bitwise_xor_(value).mul_(_signed(SECOND))
    return _shift(value, 31).bitwise_xor_(value)
