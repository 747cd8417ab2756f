"""A slide's own colour: what makes two patients' slides look different before any biology does."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stalign_pl.data.niche import NicheConfig
from stalign_pl.data.reader import BatchReader
from stalign_pl.data.shards import SlideShard
from stalign_pl.errors import ShardError

SPOTS = 64


@dataclass(frozen=True)
class SlideColour:
    """mean, sd: float32 [3], over the pixels of a sample of the slide's spot pictures, in [0, 1]."""

    mean: np.ndarray
    sd: np.ndarray


def slide_colour(slide: SlideShard) -> SlideColour:
    """Read the colour of a slide off the first spots of its tar's random order; needs no labels and no other slide.

    Raises:
        ShardError: every one of them is damaged.
    """
    reader = BatchReader({slide.record.number: slide}, NicheConfig(k=0), threads=1)
    ranks = np.arange(min(SPOTS, len(slide)))
    batch = reader.read(np.full(len(ranks), slide.record.number), ranks, epoch=0)
    reader.close()
    side = slide.record.spot_px
    if not batch.valid.any():
        raise ShardError(f"the first {len(ranks)} samples of a slide are all damaged, the first: {batch.damaged[0]}")
    pixels = batch.spot_image[batch.valid, :side, :side].numpy().reshape(-1, 3) / np.float32(255)
    return SlideColour(pixels.mean(axis=0), np.maximum(pixels.std(axis=0), np.float32(0.02)))
