"""MovedRun: a run whose folder was moved or renamed knows its best checkpoint still."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer


class MovedRun(Callback):
    """Puts the folder's present place into what `ModelCheckpoint` saved of itself.

    Lightning forgets the best score where the folder's name is another: the next epoch would overwrite `best.ckpt`,
    however bad. For a run that goes on; a checkpoint of another run brings no best of this one.
    """

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        here = str((Path(trainer.default_root_dir) / "checkpoints").resolve())
        for key, state in checkpoint["callbacks"].items():
            if isinstance(state, dict) and state.get("dirpath"):
                checkpoint["callbacks"][key] = _moved(state, state["dirpath"], here)


def _moved(value: Any, old: str, new: str) -> Any:
    """The same with every path below `old` below `new`."""
    if isinstance(value, dict):
        return {_moved(key, old, new): _moved(item, old, new) for key, item in value.items()}
    if isinstance(value, str) and (value == old or value.startswith(f"{old}/")):
        return new + value.removeprefix(old)
    return value
