"""A whole run, trained once for all tests that look at what it left."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.runs import arguments, run_apart
from tests.support.uninterrupted import Uninterrupted, train_uninterrupted


@pytest.fixture(scope="session")
def trained(tiny_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs with one in it: `tiny`, two epochs by `python -m stalign_pl fit`. Copy it to write in it."""
    folder = tmp_path_factory.mktemp("trained")
    printed = run_apart(*arguments("fit", tiny_shards, folder))
    assert "before training" in printed
    assert "epoch   1" in printed
    return folder


@pytest.fixture(scope="session")
def uninterrupted(tiny_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Uninterrupted:
    """Two epochs with dropout, by `uninterrupted.OPTIONS`. Copy a folder to write in it."""
    return train_uninterrupted(tiny_shards, tmp_path_factory.mktemp("uninterrupted"))
