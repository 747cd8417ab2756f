"""Pixels: the one form in which the rest of data_prep sees an image, whatever file it came from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from PIL import Image

BAND_BYTES = 2 << 20
"""An image is walked through in bands of rows of at most about this many bytes."""

THUMBNAIL_PX = 600
"""Longer side of the picture by which a slide is judged, and that its .h5ad holds as scanpy's `lowres` image."""


@dataclass(frozen=True)
class Level:
    """One resolution of an image.

    Attributes:
        width: pixels.
        height: pixels.
        shrink_x: pixels of the image a pixel of this level, along x; 1 or more.
        shrink_y: the same along y.
    """

    width: int
    height: int
    shrink_x: float = 1.0
    shrink_y: float = 1.0


class Pixels(Protocol):
    """An open image.

    Attributes:
        levels: the image itself, then ever coarser copies of it that the file holds.
        band_px: None where regions cost the same in any order. Else regions are to be asked for in bands of this many
            rows (of the image), from left to right in a band, so that no tile is decoded again and again.
    """

    @property
    def levels(self) -> tuple[Level, ...]: ...

    @property
    def band_px(self) -> int | None: ...

    @property
    def width(self) -> int: ...

    @property
    def height(self) -> int: ...

    def region(self, x0: int, y0: int, x1: int, y1: int, level: int = 0) -> np.ndarray:
        """Returns uint8 [y1 - y0, x1 - x0, 3] RGB: columns x0 .. x1 - 1 and rows y0 .. y1 - 1 of a level, inside it.

        The array may be a view of the image: read it, do not write in it.

        Raises:
            SlideError: a part of the file that the region needs is damaged or missing.
        """
        ...


def make_level(full: tuple[int, int], size: tuple[int, int]) -> Level:
    """Returns the level of `size` (width, height) in a pyramid over `full`.

    A side that a writer rounded (60,001 px halved to 30,000 or 30,001) is a whole factor all the same.
    """
    shrinks = []
    for whole, reduced in zip(full, size, strict=True):
        factor = round(whole / reduced)
        shrinks.append(float(factor) if abs(factor * reduced - whole) < factor else whole / reduced)
    return Level(*size, *shrinks)


def choose_level(levels: tuple[Level, ...], shrink: float) -> int:
    """Returns the number of the coarsest level at least as fine as the image reduced by `shrink` (1 or more)."""
    fine = [number for number, level in enumerate(levels) if max(level.shrink_x, level.shrink_y) <= shrink]
    return max(fine, key=lambda number: levels[number].shrink_x, default=0)


def make_thumbnail(pixels: Pixels, longest_px: int = THUMBNAIL_PX) -> np.ndarray:
    """Returns uint8 [h, w, 3]: the image reduced to `longest_px` on its longer side, never enlarged.

    As Pillow's resize(size, BOX, reducing_gap=2.0) of the whole image to the byte, but a band of rows at a time; of a
    pyramid, from the coarsest level that suffices.
    """
    shrink = max(1.0, max(pixels.width, pixels.height) / longest_px)
    size = (max(1, round(pixels.width / shrink)), max(1, round(pixels.height / shrink)))
    number = choose_level(pixels.levels, shrink)
    level = pixels.levels[number]
    factor = max(1, int(level.width / size[0] / 2.0)), max(1, int(level.height / size[1] / 2.0))
    reduced = np.concatenate(list(_reduce_bands(pixels, number, factor)))
    box = (0, 0, level.width / factor[0], level.height / factor[1])
    return np.asarray(Image.fromarray(reduced).resize(size, Image.Resampling.BOX, box=box))


def _reduce_bands(pixels: Pixels, number: int, factor: tuple[int, int]) -> Iterator[np.ndarray]:
    """Yields the level in bands, averaged over blocks of `factor` (x, y) pixels."""
    level = pixels.levels[number]
    rows = max(1, BAND_BYTES // (level.width * 3) // factor[1]) * factor[1]
    for y in range(0, level.height, rows):
        band = pixels.region(0, y, level.width, min(y + rows, level.height), number)
        if factor == (1, 1):
            yield band
        else:
            yield np.asarray(Image.fromarray(np.ascontiguousarray(band)).reduce(factor))
