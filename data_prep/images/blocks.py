"""Images that are read by region: tiles, strips or chunks, decoded where they are needed and kept while they may be."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from data_prep.images.pixels import make_level

CACHE_BYTES = 256 << 20
"""Decoded blocks of an image are kept up to this size, or one block where one is larger."""

BAND_PX, CROP_PX = 8192, 2048
"""Regions of tiled images are asked for in bands of at most BAND_PX rows, of fewer where a band's part that is as wide
as a crop of CROP_PX would not fit the cache. Only tiles on the border of two bands are decoded twice."""


class Blocks(Protocol):
    """One resolution of an image as a grid of blocks; those at the right and lower edge may be smaller."""

    width: int
    height: int
    block_width: int
    block_height: int

    def read(self, row: int, column: int) -> np.ndarray:
        """Returns uint8 [h, w, 3] RGB, the block as far as it lies inside the image.

        Raises:
            SlideError: it is damaged or missing.
        """
        ...


class BlockPixels:
    """An image read by blocks; see Pixels.

    Args:
        levels: the image itself, then ever coarser copies.
        cache_bytes: decoded blocks that are kept at most.
    """

    def __init__(self, levels: Sequence[Blocks], cache_bytes: int = CACHE_BYTES) -> None:
        self._blocks = levels
        self.width, self.height = levels[0].width, levels[0].height
        self.levels = tuple(make_level((self.width, self.height), (level.width, level.height)) for level in levels)
        self._cache: OrderedDict[tuple[int, int, int], np.ndarray] = OrderedDict()
        self.cache_bytes, self._cached_bytes = cache_bytes, 0

    @property
    def band_px(self) -> int | None:
        if sum(level.width * level.height * 3 for level in self._blocks) <= self.cache_bytes:
            return None
        full = self._blocks[0]
        if full.block_width >= full.width:
            return full.block_height
        kept = self.cache_bytes // 3 // (CROP_PX + 2 * full.block_width) - CROP_PX - 2 * full.block_height
        return max(full.block_height, min(BAND_PX, kept))

    def region(self, x0: int, y0: int, x1: int, y1: int, level: int = 0) -> np.ndarray:
        blocks = self._blocks[level]
        wide, high = blocks.block_width, blocks.block_height
        out = np.empty((y1 - y0, x1 - x0, 3), np.uint8)
        for row in range(y0 // high, -(-y1 // high)):
            for column in range(x0 // wide, -(-x1 // wide)):
                block = self._read_block(level, row, column)
                left, top = column * wide, row * high
                part = block[max(y0 - top, 0) : y1 - top, max(x0 - left, 0) : x1 - left]
                y, x = max(top, y0) - y0, max(left, x0) - x0
                out[y : y + part.shape[0], x : x + part.shape[1]] = part
        return out

    def _read_block(self, level: int, row: int, column: int) -> np.ndarray:
        key = level, row, column
        if key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key]
        blocks = self._blocks[level]
        high = min(blocks.block_height, blocks.height - row * blocks.block_height)
        wide = min(blocks.block_width, blocks.width - column * blocks.block_width)
        while self._cache and self._cached_bytes + high * wide * 3 > self.cache_bytes:  # before memory is asked for
            self._cached_bytes -= self._cache.popitem(last=False)[1].nbytes
        block = self._cache[key] = np.ascontiguousarray(blocks.read(row, column))
        self._cached_bytes += block.nbytes
        return block
