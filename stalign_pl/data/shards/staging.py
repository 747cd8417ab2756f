"""Staging: a set's slides copied to the node's own disk once, checked on the way, and read there by every process."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from stalign_pl.data.shards.shard_set import ShardSet, SlideShard
from stalign_pl.errors import ConfigError, ShardError
from stalign_pl.files import replacing, sweep

if TYPE_CHECKING:
    from tqdm import tqdm

CHUNK = 1 << 23


class Staging:
    """A copy of a set's files in `<to>/<name>-<digest>`, shared by all processes and runs of the node.

    Two lock files stand beside the folder: one process at a time copies; everyone who reads shares the other, which
    the last one needs alone to remove the copy. A copy that was cut off goes on where it was: a file stands under its
    name only when its size and checksum are the manifest's.

    Args:
        to: a folder on the node's disk.
        keep: leave the copy when done.
    """

    def __init__(self, to: Path, keep: bool = True) -> None:
        self.to, self.keep = to, keep
        self._reading: int | None = None
        self._folder: Path | None = None

    def folder(self, shards: ShardSet) -> Path:
        """Where the set's copy is; another content has another name."""
        return self.to / f"{shards.folder.resolve().name}-{shards.digest()[:12]}"

    def copy(self, shards: ShardSet, slides: Mapping[int, SlideShard]) -> Path:
        """Copy what is not there yet.

        Raises:
            ConfigError: too little room.
            ShardError: a file is not the one that the manifest describes.
        """
        folder = self.folder(shards)
        self.to.mkdir(parents=True, exist_ok=True)
        copying = _acquire(folder, "copying", fcntl.LOCK_EX)
        try:
            self._share(folder)
            folder.mkdir(exist_ok=True)
            files = {name: file for slide in slides.values() for name, file in slide.record.files.items()}
            sweep(folder, *files)
            missing = {name: file for name, file in files.items() if not _there(folder / name, file["bytes"])}
            self._refuse_without_room(folder, sum(file["bytes"] for file in missing.values()))
            with _bar(missing.values(), str(folder)) as bar:
                for name, file in missing.items():
                    _copy(shards.folder / name, folder / name, file["sha256"], bar)
        finally:
            os.close(copying)
        return folder

    def use(self, shards: ShardSet, slides: Mapping[int, SlideShard]) -> None:
        """Read these slides from the copy from now on. Another process may have made it.

        Raises:
            ShardError: a file is missing from it.
        """
        folder = self.folder(shards)
        self._share(folder)
        for slide in slides.values():
            for name, file in slide.record.files.items():
                if not _there(folder / name, file["bytes"]):
                    raise ShardError(f"{folder / name} is not there or has another size: staging did not end well")
            slide.move(folder)

    def release(self) -> None:
        """Give the copy up; unless it is kept, the last process to do so removes it."""
        if self._reading is None:
            return
        if not self.keep:
            try:
                # Turning a share into the whole gives the share up first: of several that try at once, one gets it.
                fcntl.flock(self._reading, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(self._folder)
            except BlockingIOError:
                pass  # somebody still reads; the last one removes it
        os.close(self._reading)
        self._reading = self._folder = None

    def _share(self, folder: Path) -> None:
        if self._reading is None:
            self._reading, self._folder = _acquire(folder, "reading", fcntl.LOCK_SH), folder

    @staticmethod
    def _refuse_without_room(folder: Path, wanted: int) -> None:
        free = shutil.disk_usage(folder).free
        if wanted > free:
            raise ConfigError(
                f"data.stage_to: {folder} wants {wanted / 1e9:.1f} GB more, its disk has {free / 1e9:.1f} GB left: "
                f"name another folder, or null to read the shards where they are"
            )


def _acquire(folder: Path, what: str, kind: int) -> int:
    """A lock file beside the folder, which it outlives; the lock ends with the process at the latest."""
    descriptor = os.open(folder.with_name(f"{folder.name}.{what}.lock"), os.O_RDWR | os.O_CREAT, 0o666)
    fcntl.flock(descriptor, kind)
    return descriptor


def _there(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _copy(source: Path, target: Path, sha256: str, bar: tqdm) -> None:
    """Copy a file whole or not at all; raises ShardError where it is not what the manifest says."""
    digest = hashlib.sha256()
    with replacing(target) as temporary:
        with source.open("rb") as old, temporary.open("wb") as new:
            while chunk := old.read(CHUNK):
                digest.update(chunk)
                new.write(chunk)
                bar.update(len(chunk))
        if digest.hexdigest() != sha256:
            raise ShardError(
                f"{source} does not have the manifest's checksum. Run: python -m data_prep check {source.parent}"
            )


def _bar(files: Iterable[dict], where: str) -> tqdm:
    from tqdm import tqdm

    total = sum(file["bytes"] for file in files)
    hidden = total == 0 or not sys.stderr.isatty()
    return tqdm(desc=f"staging to {where}", total=total, unit="B", unit_scale=True, disable=hidden)
