"""Colour of a slide, and its pictures moved to a common colour. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stalign_pl.errors import ConfigError

WANTED = "red, green and blue in [0, 1] are wanted, sd above 0"


@dataclass(frozen=True)
class SlideColour:
    """Colour of a slide, over the pixels of a sample of its spot pictures.

    Attributes:
        mean: float32 [3], of red, green and blue, in [0, 1].
        sd: float32 [3], likewise, above 0.

    Raises:
        ConfigError: not three numbers each, in [0, 1], sd above 0.
    """

    mean: np.ndarray
    sd: np.ndarray

    def __post_init__(self) -> None:
        for name in ("mean", "sd"):
            try:
                value = np.asarray(getattr(self, name), np.float32)
            except (TypeError, ValueError) as error:
                raise ConfigError(f"a slide's colour has {name} {getattr(self, name)!r}; {WANTED}") from error
            if value.shape != (3,) or not (value >= 0).all() or not (value <= 1).all() or (name == "sd" and 0 in value):
                raise ConfigError(f"a slide's colour has {name} {value.tolist()}; {WANTED}")
            object.__setattr__(self, name, value)

    def as_tensor(self) -> Tensor:
        """float32 [3, 2]: mean and sd of each channel."""
        return torch.stack([torch.from_numpy(self.mean), torch.from_numpy(self.sd)], dim=1)


def measure_colour(pictures: np.ndarray) -> SlideColour:
    """Measure the colour of pictures.

    Args:
        pictures: uint8 [..., 3], at least one pixel.

    Returns:
        Mean and sd of each channel, sd at least 0.02.
    """
    pixels = pictures.reshape(-1, 3) / np.float32(255)
    return SlideColour(pixels.mean(axis=0), np.maximum(pixels.std(axis=0), np.float32(0.02)))


def recolour(image: Tensor, own: Tensor, common: Tensor) -> Tensor:
    """Move each picture's colours from its slide's mean and sd to the common mean and sd.

    Args:
        image: float32 [B, 3, size, size] in [0, 1].
        own: [B, 3, 2], mean and sd of the slide's channels.
        common: [3, 2], mean and sd that all slides are moved to.

    Returns:
        As `image`.
    """
    mean, sd = own.unbind(dim=2)
    gain = common[:, 1] / sd
    shift = common[:, 0] - mean * gain
    return (image * gain[:, :, None, None] + shift[:, :, None, None]).clamp(0, 1)
