"""Whose counts a row's sum is made of, and those counts copied out of the slides' memory-mapped arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from stalign_pl.data.batch import CountPairs
from stalign_pl.data.buffers import BatchBuffers
from stalign_pl.data.shards import SlideShard


@dataclass(frozen=True)
class SlideRows:
    """Rows of a batch that follow one another and are of one slide: start to stop."""

    slide: SlideShard
    start: int
    stop: int


class Members:
    """The spots whose counts are added up in each row of a batch.

    Attributes:
        spots: int32 [B, width], spot indices of the row's slide, the first `used` of them.
        used: int64 [B].
        weights: int32 [B, width], of the spots; None where all count alike.
    """

    def __init__(self, batch: int, width: int, weighted: bool) -> None:
        self.spots = np.zeros((batch, width), np.int32)
        self.used = np.zeros(batch, np.int64)
        self.weights = np.ones((batch, width), np.int32) if weighted else None

    def gather(self, rows: list[SlideRows], buffers: BatchBuffers) -> CountPairs:
        """Copy the members' pairs one after another, counts times weights where there are any; the device adds up.

        Whole numbers below 2^24 are exact in fp32 in any order.

        Args:
            rows: all rows of the batch that are used.
            buffers: lends the memory of the result.
        """
        taken = np.arange(self.spots.shape[1]) < self.used[:, None]
        parts: list[np.ndarray] = []
        for of in rows:
            here = slice(of.start, of.stop)
            parts += of.slide.pairs(self.spots[here][taken[here]])
        lengths = np.fromiter((part.shape[1] for part in parts), np.int64, len(parts))
        narrow = self.weights is None and all(of.slide.counts.dtype == np.uint16 for of in rows)
        pairs = buffers.lend((2, int(lengths.sum())), torch.uint16 if narrow else torch.int32)
        if parts:
            np.concatenate(parts, axis=1, out=pairs.numpy(), casting="same_kind")
        if self.weights is not None:
            pairs.numpy()[1] *= np.repeat(self.weights[taken], lengths)
        ends = np.cumsum(np.concatenate([[0], lengths]))[np.cumsum(self.used)]
        return CountPairs(torch.from_numpy(np.diff(ends, prepend=0)), pairs[0], pairs[1])
