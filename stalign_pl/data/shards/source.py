"""Where a shard set's files are, as staging sees it: each can be opened and read once from its first byte."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Protocol


class TransferError(Exception):
    """A file was not read to its end. The text says why, without the address and its secrets."""


class ShardSource(Protocol):
    """A place that holds a set's files: a folder (`FolderSource`), or another machine (`remote.RemoteSource`)."""

    @property
    def name(self) -> str:
        """The set's name, a plain file name: staging calls its copy so."""
        ...

    @property
    def place(self) -> str:
        """The place for logs and errors, without secrets."""
        ...

    @property
    def tries(self) -> int:
        """How often a file is read before it is given up."""
        ...

    @property
    def readable_in_place(self) -> bool:
        """Whether a run can do without staging."""
        ...

    def open(self, name: str) -> AbstractContextManager[IO[bytes]]:
        """Open a file of the set.

        Raises:
            TransferError: on the way in or out, where the file cannot be read to its end.
        """
        ...

    def describe_mismatch(self, name: str, wanted: str, got: str) -> str:
        """Return the message for a file that is not the one that the manifest describes.

        Args:
            name: the file.
            wanted: its size and checksum, in words.
            got: what was read instead.
        """
        ...


class FolderSource:
    """A set in a folder of this machine."""

    tries = 1
    readable_in_place = True

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    @property
    def place(self) -> str:
        return str(self.folder)

    def open(self, name: str) -> AbstractContextManager[IO[bytes]]:
        return (self.folder / name).open("rb")

    def describe_mismatch(self, name: str, wanted: str, got: str) -> str:
        return (
            f"{self.folder / name} does not have the manifest's checksum. Run: python -m data_prep check {self.folder}"
        )
