"""Bytes of tar files into memory that is used again and again."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path

from stalign_pl.errors import ShardError

OPEN_TARS = 256
BLOCK = 1 << 24


class TarBytes:
    """Byte ranges of tar files, one `pread` each; the most recently used files stay open.

    The bytes land one range after another in blocks of memory that `forget` makes free to be used again: memory that
    is mapped anew for every range costs more than the copy.
    """

    def __init__(self) -> None:
        self._open: OrderedDict[Path, int] = OrderedDict()
        self._blocks = [bytearray(BLOCK)]
        self._block, self._used = 0, 0

    def forget(self) -> None:
        """Let what was read be written over."""
        self._block, self._used = 0, 0

    def _space(self, length: int) -> memoryview:
        """Take the next free `length` bytes."""
        while self._used + length > len(self._blocks[self._block]):
            self._block, self._used = self._block + 1, 0
            if self._block == len(self._blocks):
                self._blocks.append(bytearray(max(BLOCK, length)))
        start, self._used = self._used, self._used + length
        return memoryview(self._blocks[self._block])[start : self._used]

    def read(self, path: Path, ranges: Iterable[tuple[int, int]]) -> memoryview:
        """Read the bytes at some places of a tar, one after another; valid until `forget`.

        Args:
            path: the tar.
            ranges: (offset, length) of each.

        Raises:
            ShardError: the file ends early.
        """
        ranges = list(ranges)
        descriptor, data, at = self._open_tar(path), self._space(sum(length for _, length in ranges)), 0
        for offset, length in ranges:
            if os.preadv(descriptor, [data[at : at + length]], offset) != length:
                size = os.fstat(descriptor).st_size
                raise ShardError(
                    f"{path} is truncated: {size} bytes, but the index names bytes {offset} to {offset + length}. "
                    f"Run: python -m data_prep check {path.parent}"
                )
            at += length
        return data

    def _open_tar(self, path: Path) -> int:
        """Return the tar's file descriptor; at most OPEN_TARS are open."""
        descriptor = self._open.pop(path, None)
        if descriptor is None:
            descriptor = os.open(path, os.O_RDONLY)
        self._open[path] = descriptor
        if len(self._open) > OPEN_TARS:
            os.close(self._open.popitem(last=False)[1])
        return descriptor

    def close(self) -> None:
        """Close all files."""
        while self._open:
            os.close(self._open.popitem()[1])
