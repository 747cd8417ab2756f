"""A whole run and how it stood at every step: what a run that was stopped has to end like."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from stalign_pl.runs.checkpoint_io import AtomicCheckpointIO
from tests.support.runs import QUICK, arguments, run_here

STEPS_AN_EPOCH, EPOCHS = 4, 2
OPTIONS = (
    *("--last_checkpoint.every_n_train_steps", "1", "--model.model.init_args.spot_gene.init_args.dropout", "0.2"),
    *QUICK,
)
SELDOM = ("--last_checkpoint.every_n_train_steps", "null")
"""Behind `OPTIONS`: no checkpoint but after an epoch."""


@dataclass
class Uninterrupted:
    """A whole run, and its folder as it stood when each checkpoint had just been written."""

    run: Path
    at_step: dict[int, Path]


def weights(run: Path, name: str = "last") -> dict[str, torch.Tensor]:
    return torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)["state_dict"]


def assert_same_end(run: Path, whole: Path) -> None:
    for name in ("last", "best"):
        expected, found = weights(whole, name), weights(run, name)
        assert expected.keys() == found.keys()
        assert [key for key in expected if not torch.equal(expected[key], found[key])] == [], name
    assert json.loads((run / "results.json").read_text()) == json.loads((whole / "results.json").read_text())


def train_uninterrupted(tiny_shards: Path, folder: Path) -> Uninterrupted:
    states: dict[int, Path] = {}
    save = AtomicCheckpointIO.save_checkpoint

    def save_and_copy(
        self: AtomicCheckpointIO, checkpoint: dict[str, Any], path: str | Path, storage_options: object = None
    ) -> None:
        save(self, checkpoint, path, storage_options)
        if Path(path).name == "last.ckpt":
            step = checkpoint["global_step"]
            states[step] = Path(shutil.copytree(folder / "tiny", folder / f"step{step}" / "tiny"))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AtomicCheckpointIO, "save_checkpoint", save_and_copy)
        assert run_here(*arguments("fit", tiny_shards, folder, *OPTIONS)) == 0
    assert sorted(states) == list(range(1, STEPS_AN_EPOCH * EPOCHS + 1))
    return Uninterrupted(folder / "tiny", states)
