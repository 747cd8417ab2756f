"""Crops in the order that suits the image, for tars that hold them in a random one."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from data_prep.shards.samples import SlideSamples


@contextmanager
def spool_pictures(samples: SlideSamples, folder: Path) -> Iterator[Callable[[int], tuple[bytes, bytes]]]:
    """Give a function spot -> its encoded spot and niche crops, for any order of spots.

    Of an image in memory they are cut when they are asked for. Of one that is read by region all are cut first, tile
    after tile, into a file in `folder` that has no name and goes when this process does; memory holds 24 bytes a spot.

    Raises:
        SlideError: a part of the image that a crop needs is damaged or missing.
    """
    band_px = samples.pixels.band_px
    if band_px is None:
        yield samples.pictures
        return
    with tempfile.TemporaryFile(dir=folder) as spool:
        bounds = np.zeros((len(samples.slide), 3), np.int64)
        end = 0
        for spot in order_by_band(samples.xy_image, band_px).tolist():
            picture, niche = samples.pictures(spot)
            spool.write(picture)
            spool.write(niche)
            bounds[spot] = end, end + len(picture), end + len(picture) + len(niche)
            end = int(bounds[spot, 2])
        spool.flush()

        def pictures_of(spot: int) -> tuple[bytes, bytes]:
            start, middle, stop = bounds[spot].tolist()
            both = os.pread(spool.fileno(), stop - start, start)
            return both[: middle - start], both[middle - start :]

        yield pictures_of


def order_by_band(xy_px: np.ndarray, band_px: int) -> np.ndarray:
    """Order the spots, int64 [N], band after band of `band_px` rows, from left to right in each."""
    return np.lexsort((xy_px[:, 1], xy_px[:, 0], xy_px[:, 1] // band_px))
