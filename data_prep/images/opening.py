"""Opening a slide's image: what it is, is told by its content, never by its suffix."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from data_prep.gzipped import is_gzipped, unpack_plain
from data_prep.images.arrays import open_hdf5, open_zarr
from data_prep.images.blocks import CACHE_BYTES, BlockPixels
from data_prep.images.pixels import Pixels
from data_prep.images.place import ImagePlace
from data_prep.images.tiff import open_tiff
from data_prep.images.whole import open_jpeg, open_pillow
from data_prep.slide.slide import SlideError, SlideImage

JPEG = b"\xff\xd8\xff"
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # classic and BigTIFF, either byte order


@contextmanager
def open_image(slide_name: str, image: SlideImage, cache_bytes: int = CACHE_BYTES) -> Iterator[Pixels]:
    """Open an image; it is read inside the block.

    JPEG, PNG and what else Pillow reads are decoded whole, once (1 and at most 4/3 times 3 bytes a pixel, a progressive
    JPEG 2 to 3 times). TIFF, arrays in HDF5 files and zarr folders are read by region, their memory is bounded.

    Args:
        slide_name: for messages.
        image: the file, and where in it the image is.
        cache_bytes: decoded tiles that are kept.

    Raises:
        SlideError: missing, damaged, too large to be decoded whole, or pixels that have no plain 8-bit RGB form (16
            bits, floats beyond 0 to 1, several images). Parts read by region can also raise it when they are read.
    """
    with ExitStack() as stack:
        yield _open_pixels(ImagePlace(slide_name, image.path, image.member), stack, cache_bytes)


def _open_pixels(place: ImagePlace, stack: ExitStack, cache_bytes: int) -> Pixels:
    if place.path.is_dir():
        return BlockPixels(open_zarr(place), cache_bytes)
    if not place.path.is_file():
        raise SlideError(place.slide_name, f"has no image {place.path}")
    if place.member:
        return BlockPixels(open_hdf5(place, stack), cache_bytes)
    if is_gzipped(place.path):
        with place.explain_damage("cannot be read as gzip"):
            unpacked = stack.enter_context(unpack_plain(place.path))
        place = replace(place, path=unpacked, shown=place.path)
    with open(place.path, "rb") as file:
        start = file.read(4)
    if start in TIFF:
        return BlockPixels(open_tiff(place, stack), cache_bytes)
    return open_jpeg(place) if start[:3] == JPEG else open_pillow(place)
