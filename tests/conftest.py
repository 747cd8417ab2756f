"""Fixtures that several test folders share."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from data_prep.build.build import build
from data_prep.build.config import BuildConfig, SourceEntry
from tests.support.paths import REPOSITORY
from tests.support.tiny_cohort import write_cohort


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real sections: ../shared/data beside the repository, or $STALIGN_REAL_DATA."""
    beside = REPOSITORY.parent / "shared" / "data"
    folder = Path(os.environ.get("STALIGN_REAL_DATA", beside))
    if not folder.is_dir():
        reason = f"no real sections in {folder} (set STALIGN_REAL_DATA to the folder that has them)"
        if os.environ.get("STALIGN_STRICT") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return folder


@pytest.fixture(scope="session")
def tiny_cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three Space Ranger slides of 64 spots and 40 genes with a sheet and labels. Read it, do not write in it."""
    return write_cohort(tmp_path_factory.mktemp("tiny_cohort"))


@pytest.fixture(scope="session")
def tiny_shards(tiny_cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cohort as a shard set: slides tiny_1 .. tiny_3 of patients P1 .. P3, labels `domain`. Do not write in it."""
    out = tmp_path_factory.mktemp("tiny_shards") / "set"
    report = build(BuildConfig(sources=(SourceEntry("space_ranger", tiny_cohort),)), out)
    assert report.failed == {}
    return out


@pytest.fixture
def benchmark() -> Iterator[Callable[[str], ModuleType]]:
    """Import a benchmark by room and name, "speed.loader"; the threads that it sets are put back."""
    import torch  # tests of data_prep go without it

    threads = torch.get_num_threads()
    yield lambda name: importlib.import_module(f"benchmarks.{name}")
    torch.set_num_threads(threads)
