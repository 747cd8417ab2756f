"""The loader's thread, its place, and the time it counts as waiting."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from stalign_pl.batch.spot_batch import SpotBatch
from stalign_pl.data.epoch.plan import Composition, Plan, plan_training
from stalign_pl.data.niches.config import NicheConfig
from stalign_pl.data.reading.loader import BatchLoader
from stalign_pl.data.reading.reader import BatchReader
from stalign_pl.data.shards.shard_set import ShardSet

COMPOSITION = Composition(2, 8, 4)


def reading_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "read-ahead"]


@pytest.fixture
def loader(tiny_shards: Path) -> BatchLoader:
    slides = ShardSet(tiny_shards).slides
    sizes = {number: len(slide) for number, slide in slides.items()}

    def plan(epoch: int) -> Plan:
        return plan_training(sizes, COMPOSITION, seed=1, epoch=epoch)

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


class Readings:
    """A clock that only reading moves on, one tick a batch, and a reader that reads what it is allowed to.

    Attributes:
        allowed: one permit a batch.
        on_request: a batch may be read when training asks for it, and not before.
    """

    def __init__(self, loader: BatchLoader) -> None:
        self.ticks, self.allowed, self._read = 0, threading.Semaphore(0), loader.reader.read
        self.changed, self.on_request, self._looks = threading.Condition(), False, 0

    def perf_counter(self) -> float:
        now = float(self.ticks)
        if self.on_request and self._looks % 2 == 0:  # before a batch; the look after it follows
            self.allowed.release()
        self._looks += 1
        return now

    def read(self, slide: np.ndarray, rank: np.ndarray, epoch: int) -> SpotBatch:
        assert self.allowed.acquire(timeout=60)
        batch = self._read(slide, rank, epoch)
        with self.changed:
            self.ticks += 1
            self.changed.notify_all()
        return batch

    def wait_for(self, batches: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: self.ticks >= batches, timeout=60)


@pytest.fixture
def readings(loader: BatchLoader, monkeypatch: pytest.MonkeyPatch) -> Readings:
    readings = Readings(loader)
    monkeypatch.setattr("stalign_pl.data.reading.loader.time", readings)
    monkeypatch.setattr(loader.reader, "read", readings.read)
    return readings


def test_what_training_waits_for_is_counted(loader: BatchLoader, readings: Readings) -> None:
    readings.on_request = True
    assert len(list(loader)) == loader.waited == len(loader)


def test_reading_ahead_saves_the_waiting(loader: BatchLoader, readings: Readings) -> None:
    """While training takes a step, the next batch is read: nothing but the first is waited for."""
    readings.allowed.release()
    for given, _ in enumerate(loader, start=1):
        if given < len(loader):
            readings.allowed.release()
            readings.wait_for(given + 1)
    assert readings.ticks == len(loader) > 1
    assert loader.waited <= 1
