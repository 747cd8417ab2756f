"""Callbacks for a run, by `--trainer.callbacks`: they write down spots, send signals, take the run's folder."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

from lightning import Callback, LightningModule, Trainer

from stalign_pl.batch.inputs import StepInputs
from stalign_pl.runs.writer import RunWriter


class BatchIds(Callback):
    """A line a step and process in `<file>.<rank>`: step, and the batch's valid (slide, spot)."""

    def __init__(self, file: str) -> None:
        self.file = file

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: StepInputs, batch_idx: int
    ) -> None:
        ids = batch.ids
        rows = zip(ids.slide[ids.valid].tolist(), ids.spot[ids.valid].tolist(), strict=True)
        with Path(f"{self.file}.{trainer.global_rank}").open("a") as file:
            file.write(json.dumps([trainer.global_step - 1, list(rows)]) + "\n")


class SignalAt(Callback):
    """Sends this process a signal.

    Args:
        step: at the end of the batch after which the run has taken so many steps; 0 before training.
        rank: in this process; null in all.
        name, times: which signal, how often.
        evaluating: in the first batch of an evaluation, in place of the end of the training batch.
    """

    def __init__(
        self, step: int, rank: int | None = None, name: str = "SIGTERM", times: int = 1, evaluating: bool = False
    ) -> None:
        self.step, self.rank, self.name, self.times, self.evaluating = step, rank, name, times, evaluating

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        if not self.evaluating:
            self._send(trainer)

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if self.evaluating and batch_idx == 0:
            self._send(trainer)

    def _send(self, trainer: Trainer) -> None:
        if trainer.global_step == self.step and self.rank in (None, trainer.global_rank):
            for _ in range(self.times):
                os.kill(os.getpid(), getattr(signal, self.name))


class TakenOver(Callback):
    """At the end of a step's batch another process takes the run's folder."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        if trainer.global_step == self.step:
            RunWriter(Path(trainer.default_root_dir)).take()


def batches(file: Path) -> dict[int, set[tuple[int, int]]]:
    """Step -> the spots of its global batch, of which no two processes have one."""
    found: dict[int, set[tuple[int, int]]] = {}
    for part in file.parent.glob(f"{file.name}.*"):
        for line in part.read_text().splitlines():
            step, rows = json.loads(line)
            spots = {tuple(row) for row in rows}
            assert not spots & found.setdefault(step, set())
            found[step] |= spots
    return found


def probe(name: str, /, **arguments: str | int | bool) -> list[str]:
    """Options that put one of these callbacks into a run."""
    value = {"class_path": f"{__name__}.{name}", "init_args": arguments}
    return ["--trainer.callbacks+", json.dumps(value)]
