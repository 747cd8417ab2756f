"""The spots whose counts a row sums, and these counts copied out of the slides' memory-mapped arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from stalign_pl.batch.buffers import BatchBuffers
from stalign_pl.batch.spot_batch import CountPairs
from stalign_pl.data.niches.config import WHOLE
from stalign_pl.data.shards.shard_set import SlideShard


@dataclass(frozen=True)
class SlideRows:
    """Consecutive rows of a batch that are of one slide.

    Attributes:
        slide: the slide.
        start: the first row.
        stop: one past the last row.
    """

    slide: SlideShard
    start: int
    stop: int


DEPTH_CAP = 4
"""Depth correction is capped at 4x and rounded to quarters, so near-empty spots are not inflated."""


class Members:
    """The spots whose counts are added up in each row of a batch.

    Args:
        batch: B, rows.
        width: the most members of a row.
        weighted: members have weights.
        even_depth: members are also weighted by depth, see `normalise_depth`.

    Attributes:
        spots: int32 [B, width], spot indices of the row's slide; the first `used` of a row are members.
        used: int64 [B], members of each row.
        weights: int32 [B, width], weights of the members, WHOLE until they are set; None where all count alike.
        even_depth: as given.
    """

    def __init__(self, batch: int, width: int, weighted: bool = False, even_depth: bool = False) -> None:
        self.spots = np.zeros((batch, width), np.int32)
        self.used = np.zeros(batch, np.int64)
        self.weights = np.full((batch, width), WHOLE, np.int32) if weighted or even_depth else None
        self.even_depth = even_depth

    def gather(self, rows: list[SlideRows], buffers: BatchBuffers) -> CountPairs:
        """Copy the members' pairs one after another, counts times weights where there are any; the device adds up.

        Whole numbers below 2^24 add up exactly in fp32 in any order. Weighted sums reach some 270 times (two rings,
        weights .33, depth-normalised) to 1,200 times (uniform, depth-normalised) a spot's counts of a gene, or of all
        genes in a library. So they are exact for libraries of up to 14,000 counts at worst.

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
        ends = np.cumsum(np.concatenate([[0], lengths]))
        if self.weights is not None:
            weights = self.weights[taken]
            if self.even_depth:
                depth = np.diff(np.concatenate([[0], pairs.numpy()[1].cumsum(dtype=np.int64)])[ends])
                weights = normalise_depth(weights, depth, self.used)
            pairs.numpy()[1] *= np.repeat(weights, lengths)
        of_rows = ends[np.cumsum(self.used)]
        return CountPairs(torch.from_numpy(np.diff(of_rows, prepend=0)), pairs[0], pairs[1])


def normalise_depth(weights: np.ndarray, depth: np.ndarray, used: np.ndarray) -> np.ndarray:
    """Depth-normalise weights: times the mean depth of the row's members over the member's own, at most EVENED.

    Members of a row then contribute alike, however many molecules were counted in each. Weights are in units of
    1 / EVENED.

    Args:
        weights: int32 [M], 1 or more, of the rows' members one after another.
        depth: int64 [M], each member's sum of counts.
        used: int64 [B], members of each row, M together.

    Returns:
        int32 [M], 1 to EVENED^2 times the weight.
    """
    row = np.repeat(np.arange(len(used)), used)
    mean = np.bincount(row, depth, len(used)) / np.maximum(used, 1)
    share = np.minimum(mean[row] / np.maximum(depth, 1), DEPTH_CAP)
    return np.maximum(np.rint(DEPTH_CAP * weights * share), 1).astype(np.int32)
