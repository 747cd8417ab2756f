"""Pooled outputs of frozen encoders: computed once, kept, and given to a stream in place of what it would look at."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

STREAMS = ("spot_image", "spot_gene", "niche_image", "niche_gene")
"""The model's streams, by the names of its modules."""


@dataclass(frozen=True)
class Features:
    """What a stream's frozen encoder says of B spots, in place of their pictures or expression.

    Attributes:
        values: float32 [B, F].
    """

    values: Tensor

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: slice | Tensor) -> Features:
        return Features(self.values[rows])


@dataclass(frozen=True)
class Fingerprint:
    """What names a stream's encoder.

    Attributes:
        architecture: hash of its modules and their settings, and of what the stream does to its input.
        weights: hash of its parameters and buffers.
    """

    architecture: str
    weights: str
