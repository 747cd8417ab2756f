"""FreshRun: an earlier run's files move out of the way, and the logs begin, when nothing is left to refuse."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import Logger

from stalign_pl.run_folder import set_aside_earlier_run
from stalign_pl.run_writer import RunWriter


class FreshRun(Callback):
    """For a `fit` that does not go on with its folder's run. Before every callback that writes into the folder.

    By `on_fit_start` data, model, cached features and a checkpoint to begin from have been opened and taken: what is
    refused leaves the earlier run where it is.

    Args:
        run: the run's folder.
        writer: who refuses a folder that a live process writes into.
        loggers: begins the logs, in the emptied folder.
    """

    def __init__(self, run: Path, writer: RunWriter, loggers: Callable[[], list[Logger]]) -> None:
        self._run, self._writer, self._loggers = run, writer, loggers

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            self._writer.refuse_live()
            earlier = set_aside_earlier_run(self._run)
            if earlier is not None:
                print(f"{self._run} held an earlier run, moved to {earlier}. To go on with a run: --ckpt_path last")
        trainer.strategy.barrier()
        trainer.loggers = self._loggers()
