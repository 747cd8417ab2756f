"""Pooled outputs of frozen encoders: computed once, kept, and given to a stream in place of its input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from stalign_pl.batch.buffers import BatchBuffers

STREAMS = ("spot_image", "spot_gene", "niche_image", "niche_gene")
"""The model's streams, by the names of its modules."""


@dataclass(frozen=True)
class Features:
    """The output of a stream's frozen encoder for B spots, in place of their pictures or expression.

    Attributes:
        values: float32 [B, F].
    """

    values: Tensor

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: slice | Tensor) -> Features:
        return Features(self.values[rows])

    def to(self, device: torch.device | str) -> Features:
        """The same on a device."""
        return Features(self.values.to(device))


@dataclass(frozen=True)
class CachedFeatures:
    """float32 [B, F] of each stream whose encoder's outputs are read in place of the encoder's input; else None."""

    spot_image: Tensor | None = None
    niche_image: Tensor | None = None
    spot_gene: Tensor | None = None
    niche_gene: Tensor | None = None


class FeatureSource(Protocol):
    """Where a reader gets cached features from."""

    @property
    def streams(self) -> frozenset[str]:
        """The streams whose features it has."""
        ...

    def whole(self, slide: int, spot: int) -> bool:
        """Whether the spot's sample was undamaged when its features were made."""
        ...

    def read(self, epoch: int, slide: np.ndarray, spot: np.ndarray, buffers: BatchBuffers) -> CachedFeatures:
        """The features of rows: slide [B] and spot [B], -1 in rows that are not valid, whose features are 0."""
        ...


@dataclass(frozen=True)
class Fingerprint:
    """Identifies a stream's encoder.

    Attributes:
        architecture: hash of its modules and their settings, and of what the stream does to its input.
        weights: hash of its parameters and buffers.
    """

    architecture: str
    weights: str
