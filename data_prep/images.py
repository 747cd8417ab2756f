"""Reading a slide's image, whole, once."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from data_prep.gzipped import plain_file
from data_prep.slide import SlideError, SlideImage

MAX_IMAGE_PIXELS = 3_000_000_000
"""A larger image (9 GB as RGB) is refused: it would fill the memory of a usual node. Give a reduced one."""


def read_image(slide_name: str, image: SlideImage) -> np.ndarray:
    """The image as uint8 [H, W, 3] RGB. Told by content, not by its suffix.

    Raises:
        SlideError: missing, damaged, above MAX_IMAGE_PIXELS, or pixels of a kind that has no plain 8-bit RGB form.
    """
    if image.member and image.path.is_dir():
        return _from_zarr(slide_name, image)
    if not image.path.is_file():
        raise SlideError(slide_name, f"has no image {image.path}")
    if image.member:
        return _from_hdf5(slide_name, image)
    try:
        with plain_file(image.path) as path:
            with open(path, "rb") as file:
                is_jpeg = file.read(3) == b"\xff\xd8\xff"
            return _from_jpeg(slide_name, path) if is_jpeg else _from_pillow(slide_name, path)
    except (OSError, ValueError) as error:
        raise SlideError(slide_name, f"{image.path} cannot be read as an image: {error}") from error


def _from_jpeg(slide_name: str, path: Path) -> np.ndarray:
    import simplejpeg

    payload = path.read_bytes()
    height, width, _, _ = simplejpeg.decode_jpeg_header(payload)
    _check_size(slide_name, path, width, height)
    return simplejpeg.decode_jpeg(payload, colorspace="RGB")


def _from_pillow(slide_name: str, path: Path) -> np.ndarray:
    from PIL import Image

    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, MAX_IMAGE_PIXELS
    try:
        with Image.open(path) as image:
            _check_size(slide_name, path, *image.size)
            if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
                white = Image.new("RGBA", image.size, "white")
                return np.asarray(Image.alpha_composite(white, image.convert("RGBA")).convert("RGB"))
            if image.mode not in ("RGB", "L", "P", "1", "CMYK", "YCbCr"):
                raise SlideError(slide_name, f"{path} has pixels of mode {image.mode!r}; 8-bit RGB or grey is wanted")
            return np.asarray(image.convert("RGB"))
    except Image.DecompressionBombError as error:
        raise SlideError(slide_name, f"{path}: {error}") from error
    finally:
        Image.MAX_IMAGE_PIXELS = before


def _from_zarr(slide_name: str, image: SlideImage) -> np.ndarray:
    """An image of a SpatialData store, OME-Zarr [channel, y, x]: its largest scale."""
    import zarr

    try:
        group = zarr.open_group(image.path, mode="r")[image.member]
        attributes = group.attrs.asdict()
        scales = attributes.get("ome", attributes)["multiscales"][0]["datasets"]
        pixels = group[scales[0]["path"]][:]
    except (OSError, KeyError, IndexError, TypeError, ValueError) as error:
        raise SlideError(slide_name, f"{image.path}/{image.member} cannot be read as OME-Zarr: {error}") from error
    if pixels.ndim != 3 or pixels.shape[0] not in (3, 4) or pixels.dtype != np.uint8:
        raise SlideError(
            slide_name,
            f"{image.path}/{image.member} is {pixels.dtype} {pixels.shape}; uint8 [3, height, width] is wanted",
        )
    return np.ascontiguousarray(pixels[:3].transpose(1, 2, 0))


def _check_size(slide_name: str, path: Path, width: int, height: int) -> None:
    if width * height > MAX_IMAGE_PIXELS:
        raise SlideError(
            slide_name,
            f"{path} has {width} x {height} pixels, more than {MAX_IMAGE_PIXELS}; give an image of a lower resolution",
        )


def _from_hdf5(slide_name: str, image: SlideImage) -> np.ndarray:
    """An array of an h5ad: uint8, or floats from 0 to 1 as matplotlib reads a PNG; [H, W, 3 or 4]."""
    import h5py

    with h5py.File(image.path, "r") as file:
        if image.member not in file:
            raise SlideError(slide_name, f"{image.path} has no array {image.member!r}")
        pixels = file[image.member][()]
    if pixels.ndim != 3 or pixels.shape[2] not in (3, 4):
        raise SlideError(
            slide_name, f"{image.path}: {image.member} has shape {pixels.shape}; [height, width, 3] is wanted"
        )
    if pixels.dtype.kind == "f" and pixels.min() >= 0 and pixels.max() <= 1:
        pixels = np.round(pixels * 255).astype(np.uint8)
    if pixels.dtype != np.uint8:
        raise SlideError(
            slide_name, f"{image.path}: {image.member} holds {pixels.dtype}; uint8, or floats from 0 to 1, are wanted"
        )
    return np.ascontiguousarray(pixels[:, :, :3])
