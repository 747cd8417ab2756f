"""What a user's configuration adds to the trainer is there, beside what every run has."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.probes import batches, probe
from tests.support.runs import QUICK, arguments, logged, run_here

STEPS = ("--trainer.max_steps", "2", "--trainer.limit_val_batches", "0", "--checkpoint.monitor", "null")


def test_callbacks_and_loggers_of_the_configuration(tiny_shards: Path, tmp_path: Path) -> None:
    ids, csv = tmp_path / "ids", tmp_path / "csv"
    logger = {"class_path": "lightning.pytorch.loggers.CSVLogger", "init_args": {"save_dir": str(csv), "version": "a"}}
    bar = {"class_path": "lightning.pytorch.callbacks.TQDMProgressBar", "init_args": {"refresh_rate": 1}}
    given = [*QUICK, *STEPS, *probe("BatchIds", file=str(ids)), "--trainer.callbacks+", json.dumps(bar)]
    given += ["--trainer.enable_progress_bar", "true", "--trainer.logger", json.dumps(logger)]
    assert run_here(*arguments("fit", tiny_shards, tmp_path, *given)) == 0
    assert sorted(batches(ids)) == [0, 1]
    assert len(logged(tmp_path / "tiny")) == 2
    assert len(next(csv.rglob("metrics.csv")).read_text().splitlines()) == 1 + 2
