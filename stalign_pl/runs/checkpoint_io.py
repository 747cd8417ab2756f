"""How a checkpoint is read from disk and put on disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from stalign_pl.errors import ConfigError
from stalign_pl.files import replace_file
from stalign_pl.runs.writer import RunWriter


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place and renames it.

    Lightning's own writes to the system's temporary folder and moves: across file systems that is a copy, and a
    machine that dies in it leaves half a checkpoint.

    Args:
        writer: of the run, if this process is to write only as long as the run's folder is its own.
    """

    def __init__(self, writer: RunWriter | None = None) -> None:
        self._writer = writer

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Callable | None = lambda storage, location: storage,
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """Read a checkpoint, tensors onto the host unless `map_location` says otherwise.

        Raises:
            ConfigError: the file is damaged, or no checkpoint of this program.
        """
        try:
            checkpoint = super().load_checkpoint(path, map_location, weights_only)
        except (RuntimeError, KeyError, EOFError, UnpicklingError) as error:
            what = str(error).strip().splitlines()[0]
            raise ConfigError(f"{path} cannot be read as a checkpoint, or is cut off ({what})") from error
        if not isinstance(checkpoint, dict) or not {"state_dict", "pytorch-lightning_version"} <= checkpoint.keys():
            raise ConfigError(f"{path} is no checkpoint of `fit`; wanted one of <run>/checkpoints/")
        return checkpoint

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: object = None) -> None:
        """Write a checkpoint whole, or leave what is there."""
        if storage_options is not None:
            raise TypeError("AtomicCheckpointIO writes local files, it has no storage_options")
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replace_file(path) as temporary:
            torch.save(checkpoint, temporary)
            if self._writer is not None:
                self._writer.check()
