"""Spot and niche images: micrometres in, pixels of the slide's own image out, never enlarged."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from data_prep.images import Pixels, choose_level
from data_prep.slide.slide import Slide, SlideError
from stalign_pl.shard_format import LOSSLESS_BELOW_PX, MAX_SIDE_PX

JPEG_QUALITY = 92

FRAME_PX = 600
"""See measure_border_colour."""


@dataclass(frozen=True)
class CropSize:
    """A square crop of a slide: `side_px` image pixels are cut, `stored_px` are stored (at most MAX_SIDE_PX)."""

    side_um: float
    side_px: int
    stored_px: int

    @property
    def format(self) -> str:
        return "png" if self.stored_px < LOSSLESS_BELOW_PX else "jpg"

    @property
    def shrink(self) -> float:
        """Stored pixels per image pixel, at most 1."""
        return self.stored_px / self.side_px


def compute_crop_size(side_um: float, image_um_per_px: float) -> CropSize:
    """Compute the size of the crop nearest to `side_um`: a whole number of image pixels, at least one."""
    side_px = max(1, round(side_um / image_um_per_px))
    return CropSize(side_um, side_px, min(side_px, MAX_SIDE_PX))


def measure_border_colour(pixels: Pixels) -> np.ndarray:
    """Compute uint8 [3]: the median of the image's outermost pixels, the glass as this scanner shows it.

    White instead would draw an edge that the model can read, wherever the background is grey. Of a pyramid, those of
    the coarsest level that has FRAME_PX pixels a side.
    """
    number = choose_level(pixels.levels, max(1.0, max(pixels.width, pixels.height) / FRAME_PX))
    width, height = pixels.levels[number].width, pixels.levels[number].height
    sides = ((0, 0, width, 1), (0, height - 1, width, height), (0, 0, 1, height), (width - 1, 0, width, height))
    frame = [pixels.region(*side, number).reshape(-1, 3) for side in sides]
    return np.median(np.concatenate(frame), axis=0).astype(np.uint8)


def locate_corner(centre_xy_px: np.ndarray, side_px: int) -> np.ndarray:
    """Compute int64 [..., 2]: the crop's upper left pixel (x, y). Pixel i covers [i, i + 1)."""
    return np.floor(np.asarray(centre_xy_px) - side_px / 2 + 0.5).astype(np.int64)


def cut_crop(pixels: Pixels, centre_xy_px: np.ndarray, size: CropSize, fill: np.ndarray) -> np.ndarray:
    """Cut a square around a point; what lies outside the image is filled with `fill`, never dropped.

    Args:
        centre_xy_px: [2] float, (x, y) in pixels of the image.
        fill: uint8 [3], see `measure_border_colour`.

    Returns:
        uint8 [stored_px, stored_px, 3], reduced by Pillow's antialiased bicubic filter where larger than that; of a
        pyramid, from the coarsest level that is at least as fine as the result.

    Raises:
        SlideError: a part of the file that the crop needs is damaged or missing.
    """
    number = choose_level(pixels.levels, size.side_px / size.stored_px)
    level = pixels.levels[number]
    corner_xy = locate_corner(centre_xy_px, size.side_px)
    low = corner_xy / (level.shrink_x, level.shrink_y)
    high = (corner_xy + size.side_px) / (level.shrink_x, level.shrink_y)
    (x0, y0), (x1, y1) = np.floor(low).astype(int).tolist(), np.ceil(high).astype(int).tolist()
    patch = _cut_padded(pixels, number, (x0, y0, x1, y1), fill)
    if size.stored_px < size.side_px:
        box = (*(low - (x0, y0)), *(high - (x0, y0)))
        side = (size.stored_px, size.stored_px)
        picture = Image.fromarray(np.ascontiguousarray(patch))
        patch = np.asarray(picture.resize(side, Image.Resampling.BICUBIC, box=box))
    return np.ascontiguousarray(patch)


def _cut_padded(pixels: Pixels, number: int, window: tuple[int, int, int, int], fill: np.ndarray) -> np.ndarray:
    """Cut a window (x0, y0, x1, y1) of a level, of which a part may be outside."""
    x0, y0, x1, y1 = window
    level = pixels.levels[number]
    left, top, right, bottom = max(x0, 0), max(y0, 0), min(x1, level.width), min(y1, level.height)
    if (left, top, right, bottom) == window:
        return pixels.region(*window, number)
    patch = np.empty((y1 - y0, x1 - x0, 3), np.uint8)
    patch[:] = fill
    if left < right and top < bottom:
        patch[top - y0 : bottom - y0, left - x0 : right - x0] = pixels.region(left, top, right, bottom, number)
    return patch


def measure_outside_share(centres_xy_px: np.ndarray, side_px: int, width: int, height: int) -> np.ndarray:
    """Compute float64 [N]: the share of each square crop outside a width x height image, as `cut_crop` pads it."""
    low = locate_corner(centres_xy_px, side_px)
    edge = np.array([width, height])
    inside = np.clip(low + side_px, 0, edge) - np.clip(low, 0, edge)
    return 1 - inside.prod(axis=1) / side_px**2


def compute_niche_boxes(
    members_xy_px: np.ndarray, corner_xy_px: np.ndarray, spot: CropSize, niche: CropSize
) -> np.ndarray:
    """Compute the paper's niche images: bounding boxes over the spot-sized patches of the target and its K nearest.

    Args:
        members_xy_px: [K + 1, 2], centres in image pixels, the target first, then by distance.
        corner_xy_px: [2], the niche crop's upper left pixel.

    Returns:
        float64 [K + 1, 4], row k = (x0, y0, x1, y1) over the first k + 1 members, in pixels of the stored niche crop,
        rounded to .1 and clipped to the crop.
    """
    centre = members_xy_px - corner_xy_px
    low = np.minimum.accumulate(centre - spot.side_px / 2, axis=0) * niche.shrink
    high = np.maximum.accumulate(centre + spot.side_px / 2, axis=0) * niche.shrink
    return np.clip(np.round(np.concatenate([low, high], axis=1), 1), 0, niche.stored_px)


def check_spots_on_image(slide: Slide, width: int, height: int) -> None:
    """Refuse a slide whose spots lie off its image, which is what a wrong scale or a swapped x and y look like.

    Raises:
        SlideError: a spot centre is outside by more than a spot's radius.
    """
    xy = slide.xy * slide.image.scale
    radius = slide.spot_um / 2 / (slide.um_per_px / slide.image.scale)
    off = np.flatnonzero(((xy < -radius) | (xy > np.array([width, height]) + radius)).any(axis=1))
    if len(off):
        x, y = xy[off[0]]
        raise SlideError(
            slide.name,
            f"{len(off)} of {len(slide)} spots lie outside {slide.image.path} ({width} x {height} px), such as "
            f"{str(slide.barcodes[off[0]])!r} at x {x:.1f}, y {y:.1f}. Is the image's scale ({slide.image.scale:g} "
            f"image pixels per full-resolution pixel) right, and is x the column?",
        )


def encode(patch: np.ndarray, file_format: str) -> bytes:
    """Encode as PNG (lossless) or JPEG 4:4:4 of quality 92; the same bytes for the same pixels."""
    import io

    import simplejpeg

    if file_format == "jpg":
        return simplejpeg.encode_jpeg(patch, quality=JPEG_QUALITY, colorspace="RGB", colorsubsampling="444")
    stream = io.BytesIO()
    Image.fromarray(patch).save(stream, "PNG")
    return stream.getvalue()
