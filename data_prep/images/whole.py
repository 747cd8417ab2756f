"""Images that are decoded whole: JPEG into an array, PNG and the rest into a Pillow image that is cropped from."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile

from data_prep.images.pixels import Level
from data_prep.images.place import ImagePlace
from data_prep.images.png import lacks_rows

JPEG_PIXELS_A_BYTE = 1024
"""A JPEG takes at least a bit for each block's brightness: at most 512 pixels a byte; subsampled, more."""

PIXELS_A_BYTE = 16_384
"""PNG packs at most 1,032 bytes, each of up to eight pixels, in one; nothing else packs real images more."""

ALPHA = ("RGBA", "LA", "PA")
PLAIN = ("RGB", "L", "P", "1", "CMYK", "YCbCr")


class ArrayPixels:
    """An image in memory, uint8 [H, W, 3]."""

    band_px = None

    def __init__(self, array: np.ndarray) -> None:
        self.array = array
        self.height, self.width = array.shape[:2]
        self.levels = (Level(self.width, self.height),)

    def region(self, x0: int, y0: int, x1: int, y1: int, level: int = 0) -> np.ndarray:
        return self.array[y0:y1, x0:x1]


class PillowPixels:
    """A decoded Pillow image, of any mode in ALPHA or PLAIN; regions are turned to RGB over white."""

    band_px = None

    def __init__(self, image: Image.Image) -> None:
        self.image = image
        self.width, self.height = image.size
        self.levels = (Level(self.width, self.height),)

    def region(self, x0: int, y0: int, x1: int, y1: int, level: int = 0) -> np.ndarray:
        return np.asarray(as_rgb(self.image.crop((x0, y0, x1, y1))))


def as_rgb(image: Image.Image) -> Image.Image:
    """Convert to RGB over white."""
    if image.mode in ALPHA or "transparency" in image.info:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def open_jpeg(place: ImagePlace) -> ArrayPixels:
    """Decode a JPEG, strictly: what is cut short is refused, where libjpeg would fill it with grey.

    Raises:
        SlideError: damaged, or of an absurd size.
    """
    import simplejpeg

    payload = place.path.read_bytes()
    with place.explain_damage("cannot be read as an image"):
        height, width, _, _ = simplejpeg.decode_jpeg_header(payload)
    place.check_whole(int(width), int(height), len(payload), JPEG_PIXELS_A_BYTE)
    with place.explain_damage("cannot be read as an image"):
        return ArrayPixels(simplejpeg.decode_jpeg(payload, colorspace="RGB", strict=True))


def open_pillow(place: ImagePlace) -> ArrayPixels | PillowPixels:
    """Decode whatever Pillow reads. The usual PNG takes 3 bytes a pixel, others up to 4.

    Raises:
        SlideError: damaged, of an absurd size, of several frames, or of a mode without plain 8-bit form.
    """
    image = _open_lazily(place)
    with image:  # closes the file, not the image
        place.check_whole(*image.size, os.path.getsize(place.path), PIXELS_A_BYTE)
        with place.explain_damage("cannot be read as an image"):
            frames = getattr(image, "n_frames", 1)
        if frames != 1:
            raise place.error(f"holds {frames} frames; one image is wanted")
        # Pillow cuts 16-bit colour to its upper bytes and calls it RGB; the decoder's arguments still tell.
        deep = any(";16" in str(tile.args) for tile in image.tile)
        if deep or image.mode not in (*ALPHA, *PLAIN):
            raise place.error(
                f"has pixels of mode {image.mode!r}{' of 16 bits a channel' if deep else ''}; 8-bit RGB or grey is "
                f"wanted. Convert it by the range of values that its scanner meant"
            )
        with place.explain_damage("cannot be read as an image"):
            if _is_usual_png(image):
                return _decode_png(place.path)
            image.load()  # raises where the file is cut short, since Pillow's LOAD_TRUNCATED_IMAGES is False
            last = image.crop((0, image.height - 1, *image.size))
            if image.format == "PNG" and last.getbbox() is None and lacks_rows(place.path):
                raise place.error("cannot be read as an image: its rows end before the last one")
    return PillowPixels(image)


def _is_usual_png(image: Image.Image) -> bool:
    plain = image.mode == "RGB" and "transparency" not in image.info and not image.info.get("interlace")
    return image.format == "PNG" and plain


def _decode_png(path: Path) -> ArrayPixels:
    """Decode by libpng, as strict as Pillow and as fast: Pillow's RGB takes 4 bytes a pixel."""
    import imagecodecs

    return ArrayPixels(imagecodecs.png_decode(path.read_bytes()))


def _open_lazily(place: ImagePlace) -> ImageFile.ImageFile:
    # Pillow's own limit of size is a warning, and one for the whole process: ours is checked by the caller.
    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        with place.explain_damage("cannot be read as an image"):
            return Image.open(place.path)
    finally:
        Image.MAX_IMAGE_PIXELS = before
