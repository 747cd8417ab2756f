"""Bytes of tar files into memory that is used again and again."""

from __future__ import annotations

import os
from collections import OrderedDict
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
        """All that was read may be written over."""
        self._block, self._used = 0, 0

    def _space(self, length: int) -> memoryview:
        """The next free `length` bytes."""
        while self._used + length > len(self._blocks[self._block]):
            self._block, self._used = self._block + 1, 0
            if self._block == len(self._blocks):
                self._blocks.append(bytearray(max(BLOCK, length)))
        start, self._used = self._used, self._used + length
        return memoryview(self._blocks[self._block])[start : self._used]

    def read(self, path: Path, offset: int, length: int) -> memoryview:
        """`length` bytes of a tar, valid until `forget`.

        Raises:
            ShardError: the file ends early.
        """
        descriptor = self._open.pop(path, None)
        if descriptor is None:
            descriptor = os.open(path, os.O_RDONLY)
        self._open[path] = descriptor
        if len(self._open) > OPEN_TARS:
            os.close(self._open.popitem(last=False)[1])
        data = self._space(length)
        if os.preadv(descriptor, [data], offset) != length:
            size = os.fstat(descriptor).st_size
            raise ShardError(
                f"{path} is truncated: {size} bytes, but the index names bytes {offset} to {offset + length}. "
                f"Run: python -m data_prep check {path.parent}"
            )
        return data

    def close(self) -> None:
        while self._open:
            os.close(self._open.popitem()[1])
