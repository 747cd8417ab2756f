"""What the tests of exports share: the tiny run's data."""

from __future__ import annotations

from pathlib import Path

import pytest

from stalign_pl.data.datamodule import STAlignData
from tests.support.shard_spots import data_of_tiny


@pytest.fixture(scope="session")
def tiny_data(tiny_shards: Path) -> STAlignData:
    return data_of_tiny(tiny_shards)
