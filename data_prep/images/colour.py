"""Samples of a decoded block -> RGB."""

from __future__ import annotations

import numpy as np
from PIL import Image

from data_prep.images.whole import as_rgb


def blend_over_white(rgba: np.ndarray, premultiplied: bool = False) -> np.ndarray:
    """Blend RGBA, uint8 [h, w, 4], over white to uint8 [h, w, 3]: what is see-through is glass, hence white.

    Args:
        rgba: colours and alpha, 0 to 255.
        premultiplied: the colours are multiplied by alpha already (TIFF's associated alpha).
    """
    if premultiplied:
        rest = 255 - rgba[:, :, 3:].astype(np.int16)
        return np.minimum(rgba[:, :, :3] + rest, 255).astype(np.uint8)
    if (rgba[:, :, 3] == 255).all():
        return rgba[:, :, :3]
    return np.asarray(as_rgb(Image.fromarray(np.ascontiguousarray(rgba), "RGBA")))


def repeat_grey(values: np.ndarray) -> np.ndarray:
    """Repeat grey values, [h, w], as RGB, [h, w, 3]."""
    return np.repeat(values[:, :, None], 3, axis=2)
