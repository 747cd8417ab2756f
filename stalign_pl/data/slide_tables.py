"""What the device knows of each slide, read off the slide itself: its colour, measured genes and clusters."""

from __future__ import annotations

import numpy as np

from stalign_pl.data.niches.config import NicheConfig
from stalign_pl.data.pictures.colour import SlideColour, colour_of
from stalign_pl.data.reading.reader import BatchReader
from stalign_pl.data.shards.shard_set import SlideShard
from stalign_pl.errors import ShardError

SPOTS = 64


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
    return colour_of(batch.spot_image[batch.valid, :side, :side].numpy())
