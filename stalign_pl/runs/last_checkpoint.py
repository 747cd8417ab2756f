"""LastCheckpoint: checkpoints/last.ckpt, where a stopped run goes on."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from stalign_pl.errors import ConfigError
from stalign_pl.runs.loggers import MetricsCSV


class LastCheckpoint(Checkpoint):
    """Saves the whole state after every epoch's evaluation, and within an epoch as often as asked.

    Lightning's `ModelCheckpoint(save_last=True)` saves `last` only when it also saves a better `best`: a run that was
    stopped would go back to its best epoch.

    Args:
        every_n_train_steps: also after every so many steps; null for no such saves.
        minutes: also when this long has passed since the last save; null for no such saves.

    Attributes:
        wanted: save after this batch, whatever is due; the same on every process.

    Raises:
        ConfigError: a number below what makes sense.
    """

    def __init__(self, every_n_train_steps: int | None = None, minutes: float | None = 20.0) -> None:
        if every_n_train_steps is not None and every_n_train_steps < 1:
            raise ConfigError(f"last_checkpoint.every_n_train_steps is {every_n_train_steps}; at least 1, or null")
        if minutes is not None and minutes <= 0:
            raise ConfigError(f"last_checkpoint.minutes is {minutes}; above 0, or null")
        self.every_n_train_steps, self.minutes = every_n_train_steps, minutes
        self.wanted = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._saved = time.monotonic()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        # After the last batch the epoch's evaluation comes first: a checkpoint before it would resume past it.
        if not trainer.is_last_batch and self._is_due(trainer):
            self._save(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._save(trainer)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """The steps after the checkpoint are taken again: their rows go."""
        for logger in trainer.loggers:
            if isinstance(logger, MetricsCSV):
                logger.forget_from(checkpoint["global_step"])

    def _is_due(self, trainer: Trainer) -> bool:
        if self.wanted:
            return True
        if self.every_n_train_steps is not None and trainer.global_step % self.every_n_train_steps == 0:
            return True
        if self.minutes is None:
            return False
        late = time.monotonic() - self._saved > 60 * self.minutes
        return trainer.strategy.broadcast(late)  # saving is a collective: rank 0's clock decides

    def _save(self, trainer: Trainer) -> None:
        if is_fast_dev_run(trainer):
            return
        trainer.save_checkpoint(Path(trainer.default_root_dir) / "checkpoints" / "last.ckpt", weights_only=False)
        self._saved = time.monotonic()


def is_fast_dev_run(trainer: Trainer) -> bool:
    """Whether Lightning runs a few batches only, as a trial, and nothing is to be saved."""
    return bool(vars(trainer)["fast_dev_run"])
