"""Throughput: spots a second, and the share of the time that training waited for data, in the bar and in the logs."""

from __future__ import annotations

import time

from lightning import Callback, LightningModule, Trainer

from stalign_pl.batch.inputs import StepInputs
from stalign_pl.data.trainer import get_loader

EVERY = 5


class Throughput(Callback):
    """Averages over a few steps, so that the bar is steady; validation is not counted."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._restart(trainer)  # a run resumed within an epoch has no on_train_epoch_start before its first batch

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._restart(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking and trainer.train_dataloader is not None:
            self._restart(trainer)

    def _restart(self, trainer: Trainer) -> None:
        waited = get_loader(trainer.train_dataloader).waited
        self._started, self._waited, self._spots = time.perf_counter(), waited, 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: StepInputs, batch_idx: int
    ) -> None:
        self._spots += len(batch.ids) * trainer.world_size
        if (batch_idx + 1) % EVERY:
            return
        elapsed = time.perf_counter() - self._started
        waited = get_loader(trainer.train_dataloader).waited - self._waited
        pl_module.log("spots/s", round(self._spots / elapsed, 1), prog_bar=True)
        pl_module.log("data_wait_%", round(100 * waited / elapsed, 1), prog_bar=True)
        self._restart(trainer)
