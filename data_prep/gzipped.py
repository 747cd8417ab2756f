"""Files that may be gzipped, as GEO's copies are: told by content, read without writing beside them."""

from __future__ import annotations

import gzip
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

GZIP = b"\x1f\x8b"


def is_gzipped(path: Path) -> bool:
    """Whether the file starts as a gzip file does; its name is not asked."""
    with open(path, "rb") as file:
        return file.read(2) == GZIP


def open_plain(path: Path) -> BinaryIO:
    """Open the file's content as a binary stream, through gzip where needed."""
    return cast(BinaryIO, gzip.open(path, "rb")) if is_gzipped(path) else open(path, "rb")


def read_plain(path: Path) -> bytes:
    """Returns the file's whole content, unpacked.

    Raises:
        OSError: missing, or damaged gzip.
    """
    try:
        with open_plain(path) as file:
            return file.read()
    except (EOFError, zlib.error) as error:
        raise OSError(f"damaged gzip: {error}") from error


@contextmanager
def unpack_plain(path: Path) -> Iterator[Path]:
    """Yields the file itself or, where it is gzipped, an unpacked copy in a temporary folder.

    The copy is removed with the context. For libraries that open paths only.

    Raises:
        OSError: missing, or damaged gzip.
    """
    if not is_gzipped(path):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        unpacked = Path(folder) / path.name.removesuffix(".gz")
        try:
            with gzip.open(path, "rb") as packed, open(unpacked, "wb") as file:
                shutil.copyfileobj(packed, file)
        except (EOFError, zlib.error) as error:
            raise OSError(f"damaged gzip: {error}") from error
        yield unpacked
