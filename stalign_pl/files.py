"""Files written whole or not at all: a temporary file in the same folder, flushed, then renamed."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def replace_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; move it to `path` when the block ends well, remove it when not.

    The file is flushed to disk before it is renamed, so a reader (or a restart) sees the old file or the whole new one.
    """
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp gives 0600; a shard set is read by the whole lab
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def sweep_temporary(folder: Path, *names: str) -> None:
    """Remove what killed writers of these files left: temporary files of `replace_file`. For the files' only writer.

    Args:
        folder: where the files are.
        names: file names; `*` stands for any text, as in `<stem>-part*.tar`.
    """
    for name in names:
        for left in sorted(folder.glob(f".{name}.*.tmp")):
            left.unlink(missing_ok=True)


def write_json(path: Path, value: object) -> None:
    """Write JSON atomically, keys in the order given, one trailing newline."""
    with replace_file(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n")


def hash_json(content: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a JSON content whatever the order of its keys; a file that people may edit carries it."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def parse_output_file(text: str) -> Path:
    """Read an argparse option, as its `type=`, that names a file to write; makes the file's folder.

    Raises:
        argparse.ArgumentTypeError: a folder, or in a folder that cannot be made.
    """
    path = Path(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is a folder; the name of a file is wanted")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise argparse.ArgumentTypeError(f"the folder {path.parent} cannot be made: {error.strerror}") from error
    return path
