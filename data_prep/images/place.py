"""Where an image is, for errors; and the sizes that are refused before any memory is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from data_prep.slide.slide import SlideError

MAX_WHOLE_PIXELS = 3_000_000_000
"""What has to be decoded whole (9 GB as RGB) may have no more pixels: it would fill the memory of a usual node."""


@dataclass(frozen=True)
class ImagePlace:
    """Where an image is.

    Attributes:
        slide_name: the slide.
        path: its file or zarr folder.
        member: the array in an HDF5 file or a zarr folder, else ''.
        shown: the user's file in messages, where `path` is an unpacked copy of it.
    """

    slide_name: str
    path: Path
    member: str = ""
    shown: Path | None = None

    def error(self, what: str) -> SlideError:
        """Returns an error that names the slide, the file and the array."""
        where = f"{self.path} {self.member}:" if self.member else self.shown or self.path
        return SlideError(self.slide_name, f"{where} {what}")

    @contextmanager
    def explain_damage(self, what: str) -> Iterator[None]:
        """Run a decoder. Whatever it raises is about the file: decoders meet damage with errors of every kind.

        Args:
            what: 'cannot be read as an image', 'tile (3, 4) is damaged', ...
        """
        try:
            yield
        except SlideError:
            raise
        except Exception as error:
            said = str(error) or type(error).__name__
            raise self.error(f"{what}: {said}") from error

    def check_whole(self, width: int, height: int, file_bytes: int, pixels_a_byte: int) -> None:
        """Refuse an image that is too large to decode whole, or that its file cannot hold.

        Args:
            width: pixels, by the header.
            height: pixels, by the header.
            file_bytes: size of the file.
            pixels_a_byte: more than the format can pack in a byte of a file.
        """
        if width < 1 or height < 1:
            raise self.error(f"has {width} x {height} pixels")
        if width * height > MAX_WHOLE_PIXELS:
            raise self.error(
                f"has {width} x {height} pixels by its header, and an image of its kind is decoded whole, up to "
                f"{MAX_WHOLE_PIXELS:,} pixels. Give a tiled TIFF, which is read by region, or a lower resolution"
            )
        if width * height > pixels_a_byte * file_bytes:
            raise self.error(
                f"has {width} x {height} pixels by its header, which {file_bytes:,} bytes cannot hold: it is cut short "
                f"or damaged"
            )
