"""How much of a PNG there is: Pillow takes one whose compressed rows end early and well, and leaves the rest black."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Colour type to samples a pixel."""

BLOCK = 1 << 20


def lacks_rows(path: Path) -> bool:
    """Whether the file's rows unpack to fewer bytes than its header asks for; reads and unpacks all of it.

    Interlaced files are not judged. The path is of a file that Pillow could read.
    """
    with open(path, "rb") as file:
        file.seek(16)
        width, height, bits, colour, _, _, interlaced = struct.unpack(">IIBBBBB", file.read(13))
    if interlaced:
        return False
    wanted = height * (1 + -(-width * bits * SAMPLES[colour] // 8))
    unpacker, found = zlib.decompressobj(), 0
    for data in _read_packed(path):
        while data and found < wanted:
            found += len(unpacker.decompress(data, BLOCK))
            data = unpacker.unconsumed_tail
    return found < wanted


def _read_packed(path: Path) -> Iterator[bytes]:
    with open(path, "rb") as file:
        file.seek(8)
        while len(head := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            end = file.tell() + length + 4
            if kind == b"IDAT":
                while file.tell() < end - 4 and (data := file.read(min(BLOCK, end - 4 - file.tell()))):
                    yield data
            file.seek(end)
