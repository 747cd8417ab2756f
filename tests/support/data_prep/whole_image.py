"""A slide's image as one array, for tests that look at all of it."""

from __future__ import annotations

import numpy as np

from data_prep.images import open_image
from data_prep.slide.slide import SlideImage


def whole_image(slide_name: str, image: SlideImage) -> np.ndarray:
    """uint8 [H, W, 3], a copy."""
    with open_image(slide_name, image) as pixels:
        return pixels.region(0, 0, pixels.width, pixels.height).copy()
