"""What a library says of a missing or damaged file, as an error that names slide and file."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from data_prep.slide import SlideError

DAMAGED = (OSError, KeyError, ValueError, EOFError, OverflowError, RuntimeError, TypeError, zlib.error)
"""What h5py, pandas, scipy, json, gzip and zarr raise over a file that is not what it should be: zarr a TypeError over
metadata that are a list, its decoders a RuntimeError over a chunk that is cut off."""


@contextmanager
def reading(slide_name: str, path: Path, what: str = "") -> Iterator[None]:
    """Raises SlideError in place of the errors of DAMAGED; `what` says as which kind of file it was read."""
    try:
        yield
    except DAMAGED as error:
        raise SlideError(slide_name, f"{path} cannot be read{what and f' as {what}'}: {error}") from error
