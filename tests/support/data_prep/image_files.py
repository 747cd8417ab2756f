"""Images to try the readers on: pictures, files of them, and what comes back."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_prep.images import Pixels, open_image
from data_prep.slide.slide import SlideError, SlideImage


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth colours with grain: JPEG keeps it within a few grey values, and no two places look the same."""
    y, x = np.mgrid[:height, :width]
    grain = np.random.default_rng(seed).normal(0, 2, (height, width))
    return (
        np.stack([x % 200 + grain + 20, y % 190 + grain + 30, (x + y) % 180 + 40], axis=2).clip(0, 255).astype(np.uint8)
    )


def opened(path: Path, member: str = "", **options: int) -> AbstractContextManager[Pixels]:
    return open_image("s", SlideImage(path, "fullres", member=member), **options)


def whole(pixels: Pixels, level: int = 0) -> np.ndarray:
    size = pixels.levels[level]
    return pixels.region(0, 0, size.width, size.height, level)


def read(path: Path, member: str = "") -> np.ndarray:
    with opened(path, member) as pixels:
        return whole(pixels)


def refusal(path: Path, member: str = "") -> str:
    """What opening and reading the whole image is refused with."""
    with pytest.raises(SlideError) as caught:
        read(path, member)
    assert str(path) in str(caught.value)
    return str(caught.value)


IMAGE = picture(300, 420)


def write_tiff(path: Path, image: np.ndarray = IMAGE, **options: object) -> Path:
    import tifffile

    tifffile.imwrite(path, image, **options)
    return path


def halved(image: np.ndarray, times: int = 1) -> np.ndarray:
    return np.asarray(Image.fromarray(image).reduce(2**times))


def write_pyramid(path: Path, image: np.ndarray, levels: int, flat: bool, **options: object) -> Path:
    """A tiled TIFF with levels of half, a quarter, ... of the size; in SubIFDs or in pages, between a label and a
    macro picture of other shapes."""
    import tifffile

    common = {"photometric": "rgb", "tile": (64, 64), **options}
    with tifffile.TiffWriter(path) as file:
        if flat:
            file.write(IMAGE[:30, :40], photometric="rgb", subfiletype=1)
        file.write(image, subifds=0 if flat else levels, **common)
        for number in range(1, levels + 1):
            file.write(halved(image, number), subfiletype=1, **common)
        if flat:
            file.write(IMAGE[:100, :40], photometric="rgb", subfiletype=1)
    return path


needs_proc = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is read from /proc")
