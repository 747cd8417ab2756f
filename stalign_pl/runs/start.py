"""How a run starts: in a folder that held another run, or where its own folder was moved."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import Logger

from stalign_pl.runs.folder import set_aside_earlier_run
from stalign_pl.runs.writer import RunWriter


class FreshRun(Callback):
    """Moves an earlier run's files away and begins the logs, when nothing is left to refuse.

    For a `fit` that does not go on with its folder's run. Before every callback that writes into the folder.

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


class MovedRun(Callback):
    """Puts the folder's present place into what `ModelCheckpoint` saved of itself.

    Lightning forgets the best score where the folder's name is another: the next epoch would overwrite `best.ckpt`,
    however bad. For a run that goes on; a checkpoint of another run brings no best of this one.
    """

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        here = str((Path(trainer.default_root_dir) / "checkpoints").resolve())
        for key, state in checkpoint["callbacks"].items():
            if isinstance(state, dict) and state.get("dirpath"):
                checkpoint["callbacks"][key] = _move(state, state["dirpath"], here)


def _move(value: object, old: str, new: str) -> object:
    """The same with every path below `old` below `new`."""
    if isinstance(value, dict):
        return {_move(key, old, new): _move(item, old, new) for key, item in value.items()}
    if isinstance(value, str) and (value == old or value.startswith(f"{old}/")):
        return new + value.removeprefix(old)
    return value
