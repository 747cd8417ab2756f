"""Staging: a set's slides copied to the node's own disk once, checked on the way, and read there by every process.

A remote set has to be staged: its manifest, gene table and panels are fetched when it is opened, a slide's other files
when they are first read or when the run begins, whichever comes first.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from stalign_pl.data.shards.remote import RemoteSource
from stalign_pl.data.shards.remote_manifest import MANIFEST, fetch_manifest, read_whole
from stalign_pl.data.shards.shard_set import ShardSet, SlideShard
from stalign_pl.data.shards.source import ShardSource, TransferError
from stalign_pl.errors import ConfigError, ShardError
from stalign_pl.files import replace_file, sweep_temporary
from stalign_pl.shard_format import GeneTable, Manifest
from stalign_pl.shard_format.address import is_remote, show_address

if TYPE_CHECKING:
    from tqdm import tqdm

CHUNK = 1 << 23
GENES = "genes.tsv"

Result = TypeVar("Result")
FileRecords = Mapping[str, dict[str, Any]]
"""File name -> {"bytes": int, "sha256": str}, as in `SlideRecord.files`."""


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
        self._reading: tuple[int, Path] | None = None

    def folder(self, shards: ShardSet) -> Path:
        """Return the folder of the set's copy; another content has another name."""
        return self._name_folder(shards.source, shards.manifest)

    def open(self, source: ShardSource) -> ShardSet:
        """Open a set that has to be staged to be read: fetch its manifest, gene table and panels.

        The manifest is fetched anew each time, since it tells whether the set is still the one that was copied. The
        slides' other files are fetched when they are first read, or by `copy`.

        Raises:
            ConfigError: too little room.
            ShardError: a file cannot be fetched, or is not the one that the manifest describes.
        """
        data, manifest = _try(source.tries, partial(fetch_manifest, source))
        folder = self._name_folder(source, manifest)
        with self._copying(folder):
            sweep_temporary(folder, MANIFEST, GENES)
            if not _holds(folder / MANIFEST, data):
                with replace_file(folder / MANIFEST) as temporary:
                    temporary.write_bytes(data)
            if _digest_genes(folder / GENES) != manifest.gene_table:
                _try(source.tries, partial(_fetch_genes, source, folder / GENES, manifest.gene_table))
            panels = {record.panel: record.files[record.panel] for record in manifest.slides}
            self._bring(source, folder, panels)
            shards = ShardSet(folder, source)
        for slide in shards.slides.values():
            slide.fetch = partial(self._fetch, source, folder, slide.record.files)
        return shards

    def copy(self, shards: ShardSet, slides: Mapping[int, SlideShard]) -> Path:
        """Copy what is not there yet.

        Args:
            shards: the set.
            slides: those of it that are wanted.

        Returns:
            The copy's folder.

        Raises:
            ConfigError: too little room.
            ShardError: a file is not the one that the manifest describes.
        """
        folder = self.folder(shards)
        with self._copying(folder):
            files = {name: file for slide in slides.values() for name, file in slide.record.files.items()}
            self._bring(shards.source, folder, files)
        return folder

    def use(self, shards: ShardSet, slides: Mapping[int, SlideShard]) -> None:
        """Read these slides from the copy from now on. Another process may have made it.

        Args:
            shards: the set.
            slides: those of it that are read.

        Raises:
            ShardError: a file is missing from it.
        """
        folder = self.folder(shards)
        self._share(folder)
        for slide in slides.values():
            for name, file in slide.record.files.items():
                if not _is_there(folder / name, file["bytes"]):
                    raise ShardError(f"{folder / name} is not there or has another size: staging did not end well")
            slide.move(folder)

    def release(self) -> None:
        """Give the copy up; unless it is kept, the last process to do so removes it."""
        if self._reading is None:
            return
        descriptor, folder = self._reading
        if not self.keep:
            try:
                # Turning a share into the whole gives the share up first: of several that try at once, one gets it.
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder)
            except BlockingIOError:
                pass  # somebody still reads; the last one removes it
        os.close(descriptor)
        self._reading = None

    def _name_folder(self, source: ShardSource, manifest: Manifest) -> Path:
        """Return the folder of a copy; another content has another name."""
        return self.to / f"{source.name}-{manifest.digest()[:12]}"

    def _share(self, folder: Path) -> None:
        """Be one of those that read the copy."""
        if self._reading is None:
            self._reading = _acquire(folder, "reading", fcntl.LOCK_SH), folder

    @contextmanager
    def _copying(self, folder: Path) -> Iterator[None]:
        """Be the only process that copies into the folder, and one of those that read there."""
        self.to.mkdir(parents=True, exist_ok=True)
        copying = _acquire(folder, "copying", fcntl.LOCK_EX)
        try:
            self._share(folder)
            folder.mkdir(exist_ok=True)
            yield
        finally:
            os.close(copying)

    def _fetch(self, source: ShardSource, folder: Path, files: FileRecords, name: str) -> None:
        """Bring one file of a slide, unless it is there; other processes wait for the one that does."""
        if not _is_there(folder / name, files[name]["bytes"]):
            with self._copying(folder):
                self._bring(source, folder, {name: files[name]}, keep_bar=False)

    def _bring(self, source: ShardSource, folder: Path, files: FileRecords, keep_bar: bool = True) -> None:
        """Copy those of the files that are not there yet. For the process that holds `_copying`."""
        sweep_temporary(folder, *files)
        missing = {name: file for name, file in files.items() if not _is_there(folder / name, file["bytes"])}
        self._refuse_without_room(folder, sum(file["bytes"] for file in missing.values()), source)
        with _make_bar(missing.values(), str(folder), keep_bar) as bar:
            for name, file in missing.items():
                _try(source.tries, partial(_copy, source, name, folder / name, file, bar))

    @staticmethod
    def _refuse_without_room(folder: Path, wanted: int, source: ShardSource) -> None:
        free = shutil.disk_usage(folder).free
        if wanted > free:
            otherwise = ", or null to read the shards where they are" if source.readable_in_place else ""
            raise ConfigError(
                f"data.stage_to: {folder} wants {wanted / 1e9:.1f} GB more, its disk has {free / 1e9:.1f} GB left: "
                f"name another folder{otherwise}"
            )


def open_shards(address: str, staging: Staging | None) -> ShardSet:
    """Open a shard set, wherever it is.

    Args:
        address: its folder, or the address of a remote one, see `RemoteSource`.
        staging: where a remote one is fetched to.

    Raises:
        ConfigError: no such folder, an address that is not understood, or a remote set without staging.
        ShardError: see `ShardSet` and `Staging.open`.
    """
    if not is_remote(address):
        if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", address):
            raise ConfigError(
                f"data.shards begins with {address.partition(':')[0]}://; a folder, http://, https:// or a pipe: "
                f"command is wanted, as in pipe:aws s3 cp s3://bucket/set/{{}} -"
            )
        return ShardSet(address)
    if staging is None:
        raise ConfigError(
            f"data.shards is {show_address(address)}, which is not on this machine, and data.stage_to is null: set "
            f"data.stage_to to a folder on the node's own disk for its files, or data.shards to a folder with the set"
        )
    return staging.open(RemoteSource(address))


def _acquire(folder: Path, what: str, kind: int) -> int:
    """Lock a file beside the folder, which it outlives; the lock ends with the process at the latest."""
    descriptor = os.open(folder.with_name(f"{folder.name}.{what}.lock"), os.O_RDWR | os.O_CREAT, 0o666)
    fcntl.flock(descriptor, kind)
    return descriptor


def _is_there(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _holds(path: Path, data: bytes) -> bool:
    return path.is_file() and path.read_bytes() == data


def _digest_genes(path: Path) -> str | None:
    """Return the digest of a gene table; None where no whole one is there."""
    try:
        return GeneTable.read(path).digest()
    except (OSError, ValueError, ShardError):
        return None


def _try(tries: int, take: Callable[[], Result]) -> Result:
    """Take something that may fail by chance; the last try's ShardError stands."""
    for _ in range(tries - 1):
        with suppress(ShardError):
            return take()
    return take()


def _fetch_genes(source: ShardSource, target: Path, digest: str) -> None:
    data = read_whole(source, GENES)
    with replace_file(target) as temporary:
        temporary.write_bytes(data)
        got = _digest_genes(temporary)
        if got != digest:
            what = "no gene table" if got is None else f"one with the digest {got[:12]}"
            raise ShardError(source.describe_mismatch(GENES, f"the gene table with the digest {digest[:12]}", what))


def _copy(source: ShardSource, name: str, target: Path, file: dict[str, Any], bar: tqdm) -> None:
    """Copy a file whole or not at all; raises ShardError where it is not what the manifest says."""
    digest, size, cut, whole = hashlib.sha256(), 0, "", file["bytes"]
    with replace_file(target) as temporary:
        try:
            with source.open(name) as old, temporary.open("wb") as new:
                while chunk := old.read(min(CHUNK, whole + 1 - size)):  # one byte more than wanted, and no further
                    digest.update(chunk)
                    size += new.write(chunk)
                    bar.update(len(chunk))
        except TransferError as error:
            cut = f" ({error})"
        if digest.hexdigest() != file["sha256"]:
            bar.update(-size)
            wanted = f"{whole:,} bytes with the SHA-256 {file['sha256'][:12]}"
            got = "more" if size > whole else f"{size:,} bytes with {digest.hexdigest()[:12]}{cut}"
            raise ShardError(source.describe_mismatch(name, wanted, got))


def _make_bar(files: Iterable[dict[str, Any]], where: str, keep: bool) -> tqdm:
    from tqdm import tqdm

    total = sum(file["bytes"] for file in files)
    hidden = total == 0 or not sys.stderr.isatty()
    return tqdm(desc=f"staging to {where}", total=total, unit="B", unit_scale=True, disable=hidden, leave=keep)
