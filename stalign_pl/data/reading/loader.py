"""A loader of whole batches: reads ahead in a thread, counts the time that training waits, resumes at any batch."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from stalign_pl.batch.damage import Damaged
from stalign_pl.batch.spot_batch import SpotBatch
from stalign_pl.data.epoch.plan import Plan
from stalign_pl.data.reading.reader import BatchReader
from stalign_pl.errors import ConfigError

_Item = SpotBatch | BaseException | None
"""Of the queue between the reading thread and training: a batch, the reading thread's error, or None at the end."""


class BatchLoader:
    """Iterates over this process's rows of the epoch's plan.

    The position (epoch, batches given out) is the same on all ranks, so Lightning may save rank 0's state for all.

    Args:
        reader: turns rows into a batch.
        plan: epoch -> the epoch's plan.
        process: this process's rank, which decides its rows of each global batch.
        processes: number of processes.
        ahead: batches read ahead.
        pin: pin the memory that the reader has not pinned yet, for transfer to a GPU.

    Attributes:
        reader: as given.
        plan_of: the plan by epoch, as given.
        process: as given.
        processes: as given.
        ahead: as given.
        pin: as given.
        epoch: the current one.
        position: batches of the epoch that were given out.
        waited: seconds that the consumer waited for batches.
        damaged: damaged samples of the batches given out so far, by (slide, spot); each once.

    Raises:
        ConfigError: the global batch does not divide by the number of processes.
    """

    def __init__(
        self,
        reader: BatchReader,
        plan: Callable[[int], Plan],
        process: int = 0,
        processes: int = 1,
        ahead: int = 2,
        pin: bool = False,
    ) -> None:
        self.reader, self.plan_of = reader, plan
        self.process, self.processes = process, processes
        self.ahead, self.pin = ahead, pin
        self.epoch, self.position = 0, 0
        self.waited = 0.0
        self.damaged: dict[tuple[int, int], Damaged] = {}
        self._plan = plan(0)
        self._plan.rows_of(process, processes)

    batch_sampler = None  # Lightning asks for one where there is a sampler

    @property
    def sampler(self) -> BatchLoader:
        """Lightning announces the epoch to `loader.sampler.set_epoch`."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of an epoch; a restored position in that same epoch is kept."""
        if epoch != self.epoch:
            self.epoch, self.position = epoch, 0

    def __len__(self) -> int:
        return len(self._plan)

    def state_dict(self) -> dict[str, Any]:
        """The position, for a checkpoint."""
        return {"epoch": self.epoch, "position": self.position, "batches": len(self)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to a saved position.

        Args:
            state: of `state_dict`.

        Raises:
            ConfigError: the epoch has another number of batches than when the state was saved.
        """
        if state["batches"] != len(self):
            raise ConfigError(
                f"the checkpoint's epoch has {state['batches']} global batches, this configuration's has {len(self)}: "
                f"resume with the same shards, training patients and composition"
            )
        self.epoch, self.position = state["epoch"], state["position"]

    def __iter__(self) -> Iterator[SpotBatch]:
        plan = self._plan = self.plan_of(self.epoch)
        rows = plan.rows_of(self.process, self.processes)
        first = self.position if self.position < len(plan) else 0
        ready: queue.Queue[_Item] = queue.Queue(self.ahead)
        stop = threading.Event()

        def read_ahead() -> None:
            try:
                for number in range(first, len(plan)):
                    batch = self.reader.read(plan.slide[number, rows], plan.rank[number, rows], self.epoch)
                    if not _put(ready, batch.pin_memory() if self.pin else batch, stop):
                        return
                    del batch  # or its buffers would be held while the next one is read
                _put(ready, None, stop)
            except BaseException as error:  # noqa: BLE001 - handed to the waiting thread, which raises it
                _put(ready, error, stop)

        thread = threading.Thread(target=read_ahead, name="read-ahead", daemon=True)
        thread.start()
        try:
            self.position = first
            while True:
                started = time.perf_counter()
                item = ready.get()
                self.waited += time.perf_counter() - started
                if item is None:
                    return
                if isinstance(item, BaseException):
                    raise item
                self.position += 1
                self.damaged.update((sample.key, sample) for sample in item.damaged)
                yield item
                item = None  # its buffers are free as soon as the consumer lets go of them
        finally:
            stop.set()
            thread.join()


def _put(ready: queue.Queue[_Item], item: _Item, stop: threading.Event) -> bool:
    """Put an item unless the consumer has left; return whether it was put."""
    while not stop.is_set():
        try:
            ready.put(item, timeout=0.1)
            return True
        except queue.Full:
            continue
    return False
