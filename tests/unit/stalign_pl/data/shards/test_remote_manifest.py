"""A manifest from elsewhere: refused where it is none, or names files out of the set."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from stalign_pl.data.shards import remote_manifest
from stalign_pl.data.shards.remote_manifest import fetch_manifest
from stalign_pl.data.shards.source import FolderSource
from stalign_pl.errors import ShardError
from tests.support.shard_server import ShardServer

NAMES = ("../x", "/etc/x", "a/b", "..", ".hidden", "-rf", "a b", "$(touch x)", "x;y", "x\n", "")


@pytest.fixture
def own(tiny_shards: Path, tmp_path: Path) -> ShardServer:
    """A set whose manifest may be changed; read from its folder, which is as good as a server here."""
    folder = tmp_path / "set"
    folder.mkdir()
    shutil.copy(tiny_shards / "manifest.json", folder)
    return ShardServer(folder)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("key", ["files", "panel", "stem", "tars"])
def test_a_name_that_is_no_plain_name_is_refused(name: str, key: str, own: ShardServer) -> None:
    def edit(record: dict) -> None:
        changed = {"files": {**record["files"], name: record["files"]["tiny_1.tar"]}, "tars": [name]}
        record[key] = changed.get(key, name)

    own.edit_manifest(edit)
    with pytest.raises(ShardError, match=r"slide 'tiny_1' names the file .*the plain name of a file"):
        fetch_manifest(FolderSource(own.folder))


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (lambda record: record["files"]["tiny_1.tar"].update(bytes="9"), "no size and SHA-256 of tiny_1.tar"),
        (lambda record: record["files"]["tiny_1.tar"].update(bytes=-9), "no size and SHA-256 of tiny_1.tar"),
        (lambda record: record["files"]["tiny_1.tar"].update(sha256="../x"), "no size and SHA-256 of tiny_1.tar"),
        (lambda record: record["files"].pop("tiny_1.h5ad"), "no size and SHA-256 of tiny_1.h5ad"),
        (lambda record: record.update(tars=3), "slide 'tiny_1': tars is 3; tuple"),
        (lambda record: record.pop("tars"), "slide 'tiny_1': missing keys .'tars'."),
        (lambda record: record.update(files=[1]), r"slide 'tiny_1': files is \[1\]; dict"),
    ],
)
def test_a_record_that_is_none_is_refused(edit: Callable, named: str, own: ShardServer) -> None:
    own.edit_manifest(edit)
    with pytest.raises(ShardError, match=named):
        fetch_manifest(FolderSource(own.folder))


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"<html>", r"manifest\.json of .*/set is not"),
        (b"[1]", r"manifest\.json of .*/set should be an object"),
        (b"\xff\xfe", r"manifest\.json of .*/set is not"),
        (b"{}", "has shard format version None"),
    ],
)
def test_another_file_is_no_manifest(content: bytes, named: str, own: ShardServer) -> None:
    (own.folder / "manifest.json").write_bytes(content)
    with pytest.raises(ShardError, match=named):
        fetch_manifest(FolderSource(own.folder))


def test_a_manifest_without_end_is_not_taken(own: ShardServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_manifest, "MOST_BYTES", 1000)
    with pytest.raises(ShardError, match=r"manifest\.json of .* cannot be fetched: it is larger than 1,000 bytes"):
        fetch_manifest(FolderSource(own.folder))
