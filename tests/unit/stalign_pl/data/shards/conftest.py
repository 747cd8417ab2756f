"""A shard set on a server of its own."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.shard_server import ShardServer, serve


@pytest.fixture
def server(tiny_shards: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ShardServer]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serve(tiny_shards) as state:
        yield state


@pytest.fixture
def own(tiny_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ShardServer]:
    """Serves a manifest that may be changed."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serve(Path(shutil.copytree(tiny_shards, tmp_path / "set"))) as state:
        yield state
