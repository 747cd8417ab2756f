"""RunConfigFile: `<run>/config.yaml`, the resolved configuration, and what a run that goes on has changed in it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning import LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, SaveConfigCallback

from stalign_pl.data.trainer import get_data
from stalign_pl.files import replace_file, write_json
from stalign_pl.runs.changes import Change, refuse_changes


class RunConfigFile(SaveConfigCallback):
    """Of `fit`; `test` and `predict` leave it as it is.

    Written when the checkpoint to go on from, if any, has been taken: a refused one leaves the run's file alone.
    Changes that were allowed are printed and added to `<run>/changes.json`: a list of `step`, `time` (UTC) and
    `changes`, each with `key`, `old` and `new`.

    Args:
        parser: of the command.
        config: its resolved configuration.
        save_to_log_dir: whether Lightning writes the file beside its logs, too.
        goes_on: with a run of this folder, whose data have to be the same.
        changes: of its settings, allowed.
        allowed: whether the data may have changed too.

    Raises:
        ConfigError: they have.
    """

    def __init__(
        self,
        parser: LightningArgumentParser,
        config: Namespace,
        save_to_log_dir: bool = True,
        goes_on: bool = False,
        changes: Sequence[Change] = (),
        allowed: bool = False,
    ) -> None:
        super().__init__(parser, config, save_to_log_dir=save_to_log_dir)
        self._goes_on, self._changes, self._allowed = goes_on, list(changes), allowed
        self._step = 0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Nothing yet."""

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._step = checkpoint["global_step"]
        data = get_data(trainer)
        saved = checkpoint[type(data).__qualname__]
        if self._goes_on and saved["content"] != data.content:
            change = Change("the content of data.shards or data.clusters", saved["content"][:12], data.content[:12])
            if saved["views"] != data.views:
                change = Change("cached views in place of augmentation (data.features)", saved["views"], data.views)
            refuse_changes([change], self._allowed, Path(trainer.default_root_dir))
            self._changes.append(change)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            self.save_config(trainer, pl_module, "fit")

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write the file, and what has changed."""
        run = Path(trainer.default_root_dir)
        if self._changes:
            self._record(run / "changes.json")
        with replace_file(run / self.config_filename) as temporary:
            temporary.write_text(self.parser.dump(self.config, skip_none=False))

    def _record(self, path: Path) -> None:
        for change in self._changes:
            print(f"changed at step {self._step:,}: {change}", flush=True)
        before = json.loads(path.read_text()) if path.exists() else []
        changes = [asdict(change) for change in self._changes]
        now = datetime.now(UTC).isoformat(timespec="seconds")
        write_json(path, [*before, {"step": self._step, "time": now, "changes": changes}])
