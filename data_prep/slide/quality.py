"""How much tissue there is under the spots, and how sharp the image is: measured on the picture alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

GLASS_BIN = 8
"""Colours are counted in bins of this many grey levels to find the commonest of the bright ones: the glass."""


@dataclass(frozen=True)
class ImageQuality:
    """What a slide's record says of its image.

    Attributes:
        on_tissue: mean share of the spots' area that shows tissue, 0 to 1.
        sharpness: see `measure_sharpness`.
    """

    on_tissue: float
    sharpness: float


def find_tissue(picture: np.ndarray) -> np.ndarray:
    """Find bool [H, W], where a picture is not glass.

    Glass is the commonest colour of the brighter half of the picture, as this scanner shows it: white, grey, bluish or
    pink. Tissue is what differs from it by more than .6 of Otsu's threshold (1979) on the distance, which is high where
    part of the tissue is strongly stained, and by more than the glass's own noise. Printed frames count as tissue.
    A picture without glass is split into paler and darker tissue: no mask says that there is nothing to tell apart.

    Args:
        picture: uint8 [H, W, 3], a thumbnail of some hundred pixels.
    """
    from scipy.ndimage import uniform_filter

    smooth = uniform_filter(picture.astype(np.float32), 3, axes=(0, 1))
    palest = smooth.min(axis=2)
    bright = smooth[palest >= np.median(palest)]
    bins = (bright // GLASS_BIN).astype(np.int64) @ np.array([1024, 32, 1])
    glass = np.median(bright[bins == np.bincount(bins).argmax()], axis=0)
    apart = np.sqrt(((smooth - glass) ** 2).sum(axis=2))
    noise = np.quantile(np.sqrt(((bright - glass) ** 2).sum(axis=1)), 0.3)
    return apart > max(0.6 * _find_otsu_cut(np.minimum(apart, np.quantile(apart, 0.95))), 4 * noise, 1.0)


def _find_otsu_cut(values: np.ndarray) -> float:
    """Find the cut of a histogram that separates two classes best (Otsu 1979)."""
    counts, edges = np.histogram(values, bins=128, range=(0.0, max(float(values.max()), 1.0)))
    centres, weight = (edges[:-1] + edges[1:]) / 2, counts / counts.sum()
    below, mean_below = np.cumsum(weight), np.cumsum(weight * centres)
    spread = below * (1 - below)
    between = (mean_below[-1] * below - mean_below) ** 2 / np.where(spread > 1e-12, spread, np.inf)
    return float(centres[between.argmax()])


def measure_share(mask: np.ndarray, xy_px: np.ndarray, radius_px: float) -> np.ndarray:
    """Compute float64 [N], the share of True in a square around each point; what lies outside the mask counts as False.

    Args:
        mask: bool [H, W].
        xy_px: [N, 2], points in pixels of the mask; they may lie anywhere.
        radius_px: half the square's side; at least the pixel itself is looked at.
    """
    height, width = mask.shape
    area = np.zeros((height + 1, width + 1), np.int64)
    area[1:, 1:] = mask.cumsum(axis=0).cumsum(axis=1)
    low = np.floor(xy_px - max(radius_px, 0.5) + 0.5).astype(np.int64)
    high = np.maximum(np.floor(xy_px + max(radius_px, 0.5) + 0.5).astype(np.int64), low + 1)
    whole = (high - low).prod(axis=1)
    (x0, y0), (x1, y1) = (np.clip(side, 0, [width, height]).T for side in (low, high))
    inside = area[y1, x1] - area[y0, x1] - area[y1, x0] + area[y0, x0]
    return inside / whole


def measure_sharpness(patches: list[np.ndarray]) -> float:
    """Compute the median over patches of the Laplacian's variance over the grey's own variance.

    0 is a blank, white noise is 20. The division takes stain and exposure out; what is left is how much of the contrast
    lies at the finest scale. Compare images of one resolution: a thumbnail is always sharp.

    Args:
        patches: uint8 [h, w, 3] each, at the image's own resolution, sides of 3 px and more.
    """
    values = []
    for patch in patches:
        grey = patch.astype(np.float32).mean(axis=2)
        laplacian = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * grey[1:-1, 1:-1]
        variance = float(grey.var())
        values.append(float(laplacian.var()) / variance if variance > 1 else 0.0)
    return float(np.median(values)) if values else 0.0
