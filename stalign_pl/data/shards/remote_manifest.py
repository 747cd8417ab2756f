"""The manifest of a remote shard set, which is not trusted: no file that it names may lead out of the set's folder."""

from __future__ import annotations

import re

from stalign_pl.data.shards.source import ShardSource, TransferError
from stalign_pl.errors import ShardError
from stalign_pl.shard_format import Manifest, SlideRecord

MANIFEST = "manifest.json"
MOST_BYTES = 1 << 30
"""Of a file whose size no manifest names: the manifest itself and the gene table."""

PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
"""A file name that is no path and no option, and means itself in a URL and in a shell."""


def read_whole(source: ShardSource, name: str) -> bytes:
    """The bytes of a file whose size and checksum are not known.

    Raises:
        ShardError: it cannot be read to its end, or is too large.
    """
    data, why = bytearray(), ""
    try:
        with source.open(name) as file:
            while len(data) <= MOST_BYTES and (chunk := file.read(1 << 20)):
                data += chunk
    except TransferError as error:
        why = str(error)
    if len(data) > MOST_BYTES:
        why = f"it is larger than {MOST_BYTES:,} bytes"
    if why:
        raise ShardError(f"{name} of the shard set {source.place} cannot be fetched: {why}")
    return bytes(data)


def fetch_manifest(source: ShardSource) -> tuple[bytes, Manifest]:
    """Fetch a manifest that somebody else wrote.

    Returns:
        The file's bytes, and what they say.

    Raises:
        ShardError: it cannot be fetched, is no manifest of this format version, or has a file in it that is not a
            plain name with a size and a SHA-256.
    """
    data, place = read_whole(source, MANIFEST), source.place
    try:
        manifest = Manifest.parse(data.decode(), place, f"{MANIFEST} of {place}")
        for record in manifest.slides:
            _refuse_files(record, place)
    except (ValueError, KeyError, TypeError) as error:
        raise ShardError(
            f"{MANIFEST} of {place} is not the manifest of a shard set: {type(error).__name__}: {error}"
        ) from error
    return data, manifest


def _refuse_files(record: SlideRecord, place: str) -> None:
    wanted = {*record.tars, record.h5ad, record.counts, record.index, record.panel}
    for name in (*sorted(wanted), *record.files):
        if not PLAIN_NAME.fullmatch(name):
            raise ShardError(
                f"{MANIFEST} of {place}: slide {record.name!r} names the file {name!r}; the plain name of a file in "
                f"the set is wanted (letters, digits, '_', '-' and '.')"
            )
    missing = sorted(wanted - record.files.keys())
    wrong = [
        name
        for name, file in record.files.items()
        if type(file["bytes"]) is not int or file["bytes"] < 0 or not re.fullmatch("[0-9a-f]{64}", file["sha256"])
    ]
    if missing or wrong:
        raise ShardError(
            f"{MANIFEST} of {place}: slide {record.name!r} has no size and SHA-256 of {', '.join(missing or wrong)}"
        )
