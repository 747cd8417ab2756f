"""The tiles or strips of one level of a TIFF, read and decoded one at a time."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

from data_prep.images.place import MAX_WHOLE_PIXELS, ImagePlace
from data_prep.images.tiff_codec import SampleKind, convert_to_rgb, decode_samples, read_sample_kind

if TYPE_CHECKING:
    import tifffile

UNCOMPRESSED_ROWS = 256
"""Uncompressed strips are read this many rows at a time, however many a strip has: never a whole file at once."""

DECODED_A_BYTE = 4096
"""A large tile or strip that would unpack to more bytes than this for each of its own is not believed."""

LARGE_BYTES = 64 << 20


class TiffBlocks:
    """See Blocks. A block is a tile, a strip, or a few rows of the image where its rows are stored as they are.

    Args:
        handle: the open file.
        number: of the level, for errors.
        pages: one page, or three grey ones for red, green and blue.

    Raises:
        SlideError: pixels or a compression that cannot be had as plain 8-bit, or places beyond the end of the file.
    """

    def __init__(self, place: ImagePlace, handle: int, number: int, pages: list[tifffile.TiffPage]) -> None:
        page = pages[0]
        self.place, self.handle, self.number = place, handle, number
        self.width, self.height = page.imagewidth, page.imagelength
        self.kinds = [read_sample_kind(place, page) for page in pages]
        self.kind: SampleKind = self.kinds[0]
        self.tiled = page.is_tiled
        self.block_width = page.tilewidth if self.tiled else self.width
        self.block_height = page.tilelength if self.tiled else min(page.rowsperstrip, self.height)
        self.columns, self.rows = -(-self.width // self.block_width), -(-self.height // self.block_height)
        segments = self.columns * self.rows * self.kind.planes
        listed = [self._list_segments(page, segments) for page in pages]
        self.offsets, self.counts = (np.concatenate(column) for column in zip(*listed, strict=True))
        self.planes = self.kind.planes * len(pages)
        self._as_stored = self._stores_plain_rows()
        if self._as_stored:
            self.block_height = min(UNCOMPRESSED_ROWS, self.height)
        elif self.block_width * self.block_height > MAX_WHOLE_PIXELS:
            raise place.error(
                f"{self._level}: is one piece of {self.block_width} x {self.block_height} px, which has to be decoded "
                f"whole, and that is done up to {MAX_WHOLE_PIXELS:,} pixels. Give it in tiles (vips tiffsave --tile)"
            )

    @property
    def _level(self) -> str:
        return f"level {self.number} ({self.width} x {self.height} px)"

    def _list_segments(self, page: tifffile.TiffPage, segments: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns offsets and sizes of the page's tiles or strips, all of them inside the file."""
        what = "tiles" if self.tiled else "strips"
        offsets, counts = (np.array(values, np.int64) for values in (page.dataoffsets, page.databytecounts))
        if len(offsets) != segments or len(counts) != segments:
            raise self.place.error(f"{self._level}: lists {len(offsets)} {what} where its size asks for {segments}")
        file_bytes = os.fstat(self.handle).st_size
        beyond = int((offsets + counts > file_bytes).sum())
        if beyond:
            raise self.place.error(
                f"{self._level}: {beyond} of {segments} {what} lie beyond the end of the file, at {file_bytes:,} "
                f"bytes: it is cut short"
            )
        return offsets, counts

    def _stores_plain_rows(self) -> bool:
        """Whether the image is one run of uncompressed rows, strip after strip."""
        if self.tiled or not self.kind.as_stored or len(self.offsets) != self.rows:
            return False
        row_bytes = self.width * self.kind.samples
        strip_rows = np.full(self.rows, self.block_height)
        strip_rows[-1] = self.height - self.block_height * (self.rows - 1)
        whole = bool((self.counts == strip_rows * row_bytes).all())
        return whole and bool((np.diff(self.offsets) == self.counts[:-1]).all())

    def read(self, row: int, column: int) -> np.ndarray:
        high = min(self.block_height, self.height - row * self.block_height)
        wide = min(self.block_width, self.width - column * self.block_width)
        if self._as_stored:
            samples = self._read_rows(row * self.block_height, high)
        else:
            planes = [self._read_segment(plane, row, column) for plane in range(self.planes)]
            samples = planes[0] if len(planes) == 1 else np.concatenate(planes, axis=2)
        return convert_to_rgb(samples[:high, :wide], self.kind)

    def _read_rows(self, first: int, rows: int) -> np.ndarray:
        row_bytes = self.width * self.kind.samples
        where = f"{self._level}, rows from {first}"
        data = self._read_bytes(int(self.offsets[0]) + first * row_bytes, rows * row_bytes, where)
        return np.frombuffer(data, np.uint8).reshape(rows, self.width, self.kind.samples)

    def _read_segment(self, plane: int, row: int, column: int) -> np.ndarray:
        """Returns uint8 [h, w, samples]: a whole tile, or a strip, at the lower edge only the image's last rows."""
        at = (plane * self.rows + row) * self.columns + column
        offset, count = int(self.offsets[at]), int(self.counts[at])
        high = self.block_height if self.tiled else min(self.block_height, self.height - row * self.block_height)
        shape = (high, self.block_width, self.kind.samples)
        where = f"{self._level}, " + (f"tile (column {column}, row {row})" if self.tiled else f"strip {row}")
        if offset == 0 or count == 0:
            raise self.place.error(f"{where} is missing: the file holds no data for it")
        size = high * self.block_width * self.kind.samples
        if size > LARGE_BYTES and size > DECODED_A_BYTE * count:
            raise self.place.error(f"{where}: {count:,} bytes cannot hold {self.block_width} x {high} px: damaged")
        data = self._read_bytes(offset, count, where)
        with self.place.explain_damage(f"{where} is damaged"):
            return decode_samples(data, shape, self.kinds[plane % len(self.kinds)])

    def _read_bytes(self, offset: int, count: int, where: str) -> bytes:
        with self.place.explain_damage(f"{where} cannot be read"):
            data = os.pread(self.handle, count, offset)
        if len(data) != count:
            raise self.place.error(f"{where}: the file ends within it: cut short")
        return data
