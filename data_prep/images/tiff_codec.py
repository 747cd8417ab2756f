"""Bytes of a TIFF's tile or strip -> 8-bit samples -> RGB. What comes out short is refused, never filled up."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from data_prep.images.colour import blend_over_white, repeat_grey
from data_prep.images.place import ImagePlace

if TYPE_CHECKING:
    import tifffile

NONE, LZW, JPEG = 1, 5, 7
BYTE_CODECS = {LZW: "lzw", 8: "zlib", 32946: "zlib", 32773: "packbits", 34925: "lzma", 50000: "zstd"}
"""TIFF compression -> the codec of imagecodecs that unpacks bytes."""

IMAGE_CODECS = {33003: "jpeg2k", 33005: "jpeg2k", 34712: "jpeg2k", 34927: "webp", 50001: "webp"}
"""TIFF compression -> the codec of imagecodecs that unpacks a whole picture. 33003, 33005: Aperio's JPEG 2000."""

JPEG2000_YCBCR = 33003
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR = 0, 1, 2, 3, 5, 6
ASSOCIATED_ALPHA, ALPHA = 1, 2

ADOBE_RGB = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00"
"""A JPEG marker that says: three components, no colour transform."""


@dataclass(frozen=True)
class SampleKind:
    """How a page stores its samples.

    Attributes:
        samples: of a pixel within one segment: all of them, or 1 where planes stand one after another.
        planes: segments that make a block of this page.
        palette: uint8 [256, 3], or None.
    """

    compression: int
    predictor: int
    photometric: int
    samples: int
    planes: int
    extra: tuple[int, ...]
    jpeg_tables: bytes
    palette: np.ndarray | None

    @property
    def as_stored(self) -> bool:
        return self.compression == NONE and self.predictor == 1


def read_sample_kind(place: ImagePlace, page: tifffile.TiffPage) -> SampleKind:
    """Returns how a page stores its samples, if they have a plain 8-bit RGB form.

    Raises:
        SlideError: 16 bits, floats, an unknown compression or colour space; names it, and what is known.
    """
    bits, form = page.bitspersample, int(page.sampleformat)
    word = {1: "whole", 2: "signed", 3: "float"}.get(form, "unknown")
    if page.dtype != np.uint8 or bits != 8 or form != 1:
        raise place.error(
            f"has {bits}-bit {word} samples; 8-bit whole numbers are wanted."
            f" Convert it by the range of values that its scanner meant"
        )
    compression, photometric = int(page.compression), int(page.photometric)
    known = (NONE, JPEG, *BYTE_CODECS, *IMAGE_CODECS)
    if compression not in known or int(page.predictor) not in (1, 2) or int(page.fillorder) != 1:
        raise place.error(
            f"is compressed by method {compression} with predictor {int(page.predictor)} and fill order "
            f"{int(page.fillorder)}; read are the methods {', '.join(map(str, known))} with predictor 1 or 2, fill "
            f"order 1"
        )
    colours = {WHITE_IS_ZERO: 1, BLACK_IS_ZERO: 1, RGB: 3, PALETTE: 1, CMYK: 4, YCBCR: 3}.get(photometric)
    extra = tuple(int(value) for value in page.extrasamples)
    if photometric == BLACK_IS_ZERO and page.samplesperpixel == 3:  # three channels whose writer did not say RGB
        photometric, colours, extra = RGB, 3, ()
    in_jpeg = compression == JPEG or compression in IMAGE_CODECS
    separate = int(page.planarconfig) == 2 and page.samplesperpixel > 1
    odd = colours is None or page.samplesperpixel - colours not in (0, 1) or page.imagedepth != 1
    odd |= photometric == YCBCR and (separate or not in_jpeg)
    odd |= compression == JPEG and not separate and page.samplesperpixel not in (1, 3)
    if odd:
        raise place.error(
            f"has {page.samplesperpixel} samples a pixel of photometric kind {photometric}, depth {page.imagedepth}, "
            f"compression {compression}; grey, RGB, palette or CMYK, with or without alpha, are wanted (as JPEG: grey, "
            f"RGB or YCbCr)"
        )
    return SampleKind(
        compression=compression,
        predictor=int(page.predictor),
        photometric=photometric,
        samples=1 if separate else page.samplesperpixel,
        planes=page.samplesperpixel if separate else 1,
        extra=extra,
        jpeg_tables=page.jpegtables or b"",
        palette=_read_palette(page) if photometric == PALETTE else None,
    )


def _read_palette(page: tifffile.TiffPage) -> np.ndarray:
    colours = np.asarray(page.colormap)
    # 16-bit by the standard; some writers give 8-bit values, as libtiff knows, too
    return (colours >> 8 if colours.max() > 255 else colours).astype(np.uint8).T


def decode_samples(data: bytes, shape: tuple[int, int, int], kind: SampleKind) -> np.ndarray:
    """Decode a tile or strip to uint8 [h, w, samples].

    LZW and PackBits carry no check sum: damage that keeps the length of the output cannot be seen.

    Raises:
        ValueError, or the codec's own error: damaged, cut short, or another size than the header says.
    """
    if kind.compression == JPEG:
        return _check_picture(_decode_jpeg(data, kind, shape), shape)
    if kind.compression in IMAGE_CODECS:
        return _decode_picture(data, kind, shape)
    size = shape[0] * shape[1] * shape[2]
    if kind.compression in BYTE_CODECS:
        data = _find_decoder(BYTE_CODECS[kind.compression])(data, out=size)
    if len(data) < size:
        raise ValueError(f"it holds {len(data):,} bytes of {size:,}")
    samples = np.frombuffer(data, np.uint8, size).reshape(shape)
    if kind.predictor == 2:
        import imagecodecs

        samples = imagecodecs.delta_decode(samples, axis=1)
    return samples


def _find_decoder(name: str) -> Callable[..., Any]:
    import imagecodecs

    return getattr(imagecodecs, f"{name}_decode")


def _check_picture(picture: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    if picture.shape != shape or picture.dtype != np.uint8:
        raise ValueError(f"it holds {picture.dtype} {picture.shape} where {shape} is wanted")
    return picture


def _decode_picture(data: bytes, kind: SampleKind, shape: tuple[int, int, int]) -> np.ndarray:
    """Decode JPEG 2000 or WebP."""
    if IMAGE_CODECS[kind.compression] == "jpeg2k":
        if data[:4] == b"\xff\x4f\xff\x51":
            _check_claim(*struct.unpack(">II", data[8:16]), shape)
        if not data.rstrip(b"\0").endswith(b"\xff\xd9"):  # the decoder would make a blur of what is there
            raise ValueError("it does not end as a JPEG 2000 stream")
    alpha = {"hasalpha": shape[2] == 4} if IMAGE_CODECS[kind.compression] == "webp" else {}
    picture = _find_decoder(IMAGE_CODECS[kind.compression])(data, **alpha)
    return _check_picture(picture[:, :, None] if picture.ndim == 2 else picture, shape)


def _decode_jpeg(data: bytes, kind: SampleKind, shape: tuple[int, int, int]) -> np.ndarray:
    """Decode JPEG by simplejpeg, which refuses what is cut short; imagecodecs 2026.3 fills it with grey."""
    import simplejpeg

    if data[:2] != b"\xff\xd8":
        raise ValueError("it does not start as a JPEG")
    start = kind.jpeg_tables[:-2] if kind.jpeg_tables else data[:2]  # the tables' end marker goes
    if kind.photometric == RGB and shape[2] == 3 and not _says_colours(start + data[2:4096]):
        start += ADOBE_RGB  # without a word libjpeg takes three components for YCbCr
    stream = start + data[2:]
    height, width, _, _ = simplejpeg.decode_jpeg_header(stream)
    _check_claim(int(width), int(height), shape)
    return simplejpeg.decode_jpeg(stream, colorspace="GRAY" if shape[2] == 1 else "RGB", strict=True)


def _says_colours(stream: bytes) -> bool:
    return b"JFIF\0" in stream or b"\xff\xee\x00\x0eAdobe" in stream


def _check_claim(width: int, height: int, shape: tuple[int, int, int]) -> None:
    """Refuse a picture of another size before memory is asked for: inside a tile, its own header may say anything."""
    if (height, width) != shape[:2]:
        raise ValueError(f"it is {width} x {height} px where {shape[1]} x {shape[0]} are wanted")


def convert_to_rgb(samples: np.ndarray, kind: SampleKind) -> np.ndarray:
    """Convert uint8 [h, w, all samples] to RGB, uint8 [h, w, 3]; alpha over white."""
    if kind.palette is not None:
        return kind.palette[samples[:, :, 0]]
    if kind.photometric == CMYK:
        return _convert_by_pillow(samples[:, :, :4], "CMYK")
    if kind.compression == JPEG2000_YCBCR:
        return _convert_by_pillow(samples[:, :, :3], "YCbCr")
    if samples.shape[2] < 3:
        rgb = repeat_grey(255 - samples[:, :, 0] if kind.photometric == WHITE_IS_ZERO else samples[:, :, 0])
        alpha = samples[:, :, 1:]
    else:
        rgb, alpha = samples[:, :, :3], samples[:, :, 3:]
    if alpha.shape[2] == 0 or kind.extra[:1] not in ((ASSOCIATED_ALPHA,), (ALPHA,)):
        return rgb
    return blend_over_white(np.concatenate([rgb, alpha], axis=2), premultiplied=kind.extra[0] == ASSOCIATED_ALPHA)


def _convert_by_pillow(samples: np.ndarray, mode: str) -> np.ndarray:
    height, width = samples.shape[:2]
    return np.asarray(Image.frombytes(mode, (width, height), np.ascontiguousarray(samples).tobytes()).convert("RGB"))
