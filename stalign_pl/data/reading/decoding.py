"""Decodes PNG and JPEG bytes into a batch buffer, by the fastest decoders that release the interpreter's lock."""

from __future__ import annotations

import imagecodecs
import numpy as np
import simplejpeg

from stalign_pl.batch.damage import DamagedSampleError

JPEG_START, PNG_START = b"\xff\xd8", b"\x89PNG"


def decode(data: memoryview, out: np.ndarray, member: str) -> None:
    """Decode a picture into the upper left corner of a buffer, and blacken the rest.

    Args:
        data: a JPEG or PNG file of three channels.
        out: uint8 [side, side, 3], contiguous.
        member: name of the picture, for errors.

    Raises:
        DamagedSampleError: the bytes are neither or do not decode, or the picture is larger than the buffer.
    """
    start = bytes(data[:4])
    if start.startswith(JPEG_START):
        height, width = _decode_jpeg(data, out, member)
    elif start == PNG_START:
        height, width = _decode_png(data, out, member)
    else:
        raise DamagedSampleError(f"the {member} image is neither JPEG nor PNG")
    out[height:] = 0
    out[:height, width:] = 0


def _decode_jpeg(data: memoryview, out: np.ndarray, member: str) -> tuple[int, int]:
    """Decode straight into the buffer. The header is read apart only to explain an error: each call costs a lock.

    Returns:
        Height and width, px.
    """
    try:
        picture = simplejpeg.decode_jpeg(data, colorspace="RGB", buffer=out)
    except ValueError as error:
        _refuse_large_jpeg(data, out, member)
        raise _decoding_error(member, error) from error
    height, width = picture.shape[:2]
    _refuse_large(height, width, out, member)
    if (height, width) != out.shape[:2]:
        out[:height, :width] = picture.copy()  # it lies at the buffer's start, row after shorter row
    return height, width


def _refuse_large_jpeg(data: memoryview, out: np.ndarray, member: str) -> None:
    """Raise DamagedSampleError where the header cannot be read or states a picture larger than the buffer."""
    try:
        height, width = simplejpeg.decode_jpeg_header(data)[:2]
    except ValueError as error:
        raise _decoding_error(member, error) from error
    _refuse_large(int(height), int(width), out, member)


def _decode_png(data: memoryview, out: np.ndarray, member: str) -> tuple[int, int]:
    """Decode, then copy into the buffer.

    Returns:
        Height and width, px.
    """
    try:
        picture = imagecodecs.png_decode(data)  # pyright: ignore[reportArgumentType] (it takes any buffer)
    except (imagecodecs.PngError, ValueError) as error:
        raise _decoding_error(member, error) from error
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
        raise DamagedSampleError(f"the {member} image is {picture.dtype} {list(picture.shape)}, not 8 bit RGB")
    height, width = picture.shape[:2]
    _refuse_large(height, width, out, member)
    out[:height, :width] = picture
    return height, width


def _refuse_large(height: int, width: int, out: np.ndarray, member: str) -> None:
    """Raise DamagedSampleError for a picture larger than the buffer."""
    if height > out.shape[0] or width > out.shape[1]:
        raise DamagedSampleError(f"the {member} image is {width} x {height} px, larger than the manifest says")


def _decoding_error(member: str, error: Exception) -> DamagedSampleError:
    return DamagedSampleError(f"the {member} image does not decode: {error}")
