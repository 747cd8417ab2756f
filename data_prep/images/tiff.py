"""TIFF, BigTIFF and the slide formats built on them: tiles or strips, pyramids in SubIFDs or in further pages."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING

from data_prep.images.place import ImagePlace
from data_prep.images.tiff_blocks import TiffBlocks
from data_prep.images.tiff_codec import BLACK_IS_ZERO

if TYPE_CHECKING:
    import tifffile


def open_tiff(place: ImagePlace, stack: ExitStack) -> list[TiffBlocks]:
    """Open a TIFF of any size; only its headers are read here.

    The image is the largest page (in SVS and OME-TIFF files thumbnails, labels and overviews stand beside it); three
    grey pages of that size are its red, green and blue. Smaller pages of its shape, or its SubIFDs, are its levels.

    Raises:
        SlideError: damaged or cut short, several images, or pixels that have no plain 8-bit form.
    """
    import tifffile

    with place.explain_damage("cannot be read as TIFF"):
        file = stack.enter_context(tifffile.TiffFile(place.path))
        if file.is_ndpi:
            raise place.error("is in Hamamatsu's NDPI layout; convert it to a pyramidal TIFF (vips, bfconvert)")
        pages = [page.aspage() for page in file.pages]
        first = max(pages, key=lambda page: page.imagelength * page.imagewidth)
        if min(_size(first)) < 1:
            raise place.error(f"cannot be read as TIFF: its largest page has {_size(first)} pixels")
        planes = _find_planes(place, pages, first)
        levels = [planes, *_find_levels(pages, planes)]
    handle = os.open(place.path, os.O_RDONLY)
    stack.callback(os.close, handle)
    with place.explain_damage("cannot be read as TIFF"):
        return [TiffBlocks(place, handle, number, pages) for number, pages in enumerate(levels)]


def _find_planes(
    place: ImagePlace, pages: list[tifffile.TiffPage], first: tifffile.TiffPage
) -> list[tifffile.TiffPage]:
    """Returns the pages that make the image: one, or three grey ones."""
    same = [page for page in pages if _size(page) == _size(first)]
    if len(same) == 1 or (len(same) == 3 and all(_is_plane(page) for page in same)):
        return same
    raise place.error(
        f"holds {len(same)} pages of {first.imagewidth} x {first.imagelength} px; one image is wanted, or three grey "
        f"pages for red, green and blue"
    )


def _is_plane(page: tifffile.TiffPage) -> bool:
    return page.samplesperpixel == 1 and int(page.photometric) == BLACK_IS_ZERO


def _size(page: tifffile.TiffPage) -> tuple[int, int]:
    return page.imagewidth, page.imagelength


def _find_levels(pages: list[tifffile.TiffPage], planes: list[tifffile.TiffPage]) -> list[list[tifffile.TiffPage]]:
    """Returns the coarser levels, from fine to coarse."""
    full = planes[0]
    nested = [[sub.aspage() for sub in plane.pages] if plane.pages else [] for plane in planes]
    alike = len({len(subs) for subs in nested}) == 1
    found = [list(level) for level in zip(*nested, strict=True)] if alike else []
    if not found:
        found = [[page] for page in pages] if len(planes) == 1 else []
    levels = [level for level in found if all(_is_level(full, page) for page in level)]
    return sorted(levels, key=lambda level: -level[0].imagewidth)


def _is_level(full: tifffile.TiffPage, page: tifffile.TiffPage) -> bool:
    """Whether it is a smaller page of the same kind of pixels and, within a pixel, of the same shape.

    A label or an overview of a slide has another shape.
    """
    if page.imagewidth >= full.imagewidth or page.dtype != full.dtype or min(_size(page)) < 1:
        return False
    if page.samplesperpixel != full.samplesperpixel:
        return False
    shrink = full.imagewidth / page.imagewidth
    return abs(full.imagelength / shrink - page.imagelength) <= 1 + 1e-9
