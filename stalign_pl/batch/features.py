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
    """Output of a stream's frozen encoder for B spots, in place of their pictures or expression.

    Attributes:
        values: float32 [B, F].
    """

    values: Tensor

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: slice | Tensor) -> Features:
        """Select rows."""
        return Features(self.values[rows])

    def to(self, device: torch.device | str) -> Features:
        """Copy to a device."""
        return Features(self.values.to(device))


@dataclass(frozen=True)
class CachedFeatures:
    """Cached features by stream: float32 [B, F], or None of a stream that is not cached."""

    spot_image: Tensor | None = None
    niche_image: Tensor | None = None
    spot_gene: Tensor | None = None
    niche_gene: Tensor | None = None


class FeatureSource(Protocol):
    """A source of cached features for a reader of batches."""

    @property
    def streams(self) -> frozenset[str]:
        """The streams whose features are cached."""
        ...

    def whole(self, slide: int, spot: int) -> bool:
        """Whether the spot's sample was undamaged when its features were made."""
        ...

    def read(self, epoch: int, slide: np.ndarray, spot: np.ndarray, buffers: BatchBuffers) -> CachedFeatures:
        """Read the features of a batch's rows.

        Args:
            epoch: decides which augmented view a spot shows.
            slide: int [B], slide numbers.
            spot: int [B], spot indices, -1 in rows that are not valid, whose features are 0.
            buffers: lends the memory of the result.
        """
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
