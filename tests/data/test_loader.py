"""The loader's thread, its place, and the time it counts as waiting."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from stalign_pl.data.loader import BatchLoader
from stalign_pl.data.niche import NicheConfig
from stalign_pl.data.plan import Composition, Plan, training_plan
from stalign_pl.data.reader import BatchReader
from stalign_pl.data.shards import ShardSet

COMPOSITION = Composition(2, 8, 4)


def reading_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "read-ahead"]


@pytest.fixture
def loader(tiny_shards: Path) -> BatchLoader:
    slides = ShardSet(tiny_shards).slides
    sizes = {number: len(slide) for number, slide in slides.items()}

    def plan(epoch: int) -> Plan:
        return training_plan(sizes, COMPOSITION, seed=1, epoch=epoch)

    return BatchLoader(BatchReader(slides, NicheConfig()), plan)


def spots(batches: list) -> list[tuple[int, ...]]:
    return [tuple((batch.slide * 1000 + batch.spot).tolist()) for batch in batches]


def test_leaving_early_ends_the_thread(loader: BatchLoader) -> None:
    batches = iter(loader)
    next(batches)
    assert len(reading_threads()) == 1
    batches.close()
    assert reading_threads() == []


def test_an_epoch_of_its_own_each_time(loader: BatchLoader) -> None:
    first = spots(list(loader))
    loader.set_epoch(1)
    second = spots(list(loader))
    assert first != second
    assert sorted(sum(first, ())) == sorted(sum(second, ()))
    loader.set_epoch(0)
    assert spots(list(loader)) == first
    assert reading_threads() == []


def test_a_place_within_an_epoch_is_kept_and_left_with_it(loader: BatchLoader) -> None:
    loader.set_epoch(1)
    whole = spots(list(loader))
    batches = iter(loader)
    head = spots([next(batches) for _ in range(3)])
    state = loader.state_dict()
    batches.close()
    assert state == {"epoch": 1, "position": 3, "batches": len(whole)}
    loader.load_state_dict(state)
    loader.set_epoch(1)
    assert head + spots(list(loader)) == whole
    loader.load_state_dict(state)
    loader.set_epoch(2)
    assert len(list(loader)) == len(whole)


def test_waiting_is_counted_and_reading_ahead_saves_it(loader: BatchLoader, monkeypatch: pytest.MonkeyPatch) -> None:
    read = loader.reader.read

    def slowly(slide: np.ndarray, rank: np.ndarray, epoch: int):
        time.sleep(0.05)
        return read(slide, rank, epoch)

    monkeypatch.setattr(loader.reader, "read", slowly)
    batches = len(list(loader))
    assert loader.waited > 0.04 * batches
    loader.waited = 0.0
    for _ in loader:
        time.sleep(0.2)  # a step longer than a read: only the first batch is waited for
    assert loader.waited < 0.5 * 0.05 * batches
