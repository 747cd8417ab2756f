"""`fit` of a compiled model with channels last: trains what the plain one trains, and goes on bit for bit."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from stalign_pl.runs.checkpoint_io import AtomicCheckpointIO
from tests.support.micro_batches import BARE, DRAWING, FOUR, assert_same_training, checkpoint
from tests.support.runs import arguments, run_here
from tests.support.traced_backend import TRACED

COMPILED = tuple(f"--model.execution.{each}" for each in ("compile=true", f"backend={TRACED}", "channels_last=true"))


def test_it_trains_the_same_in_micro_batches_with_dropout_and_a_resume(
    tiny_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = [*BARE, *DRAWING, *FOUR, "--last_checkpoint.every_n_train_steps", "1"]
    save, stopped = AtomicCheckpointIO.save_checkpoint, tmp_path / "stopped"

    def save_and_copy(
        self: AtomicCheckpointIO, checkpoint: dict[str, Any], path: str | Path, storage_options: object = None
    ) -> None:
        save(self, checkpoint, path, storage_options)
        if checkpoint["global_step"] == 6 and not stopped.exists():
            shutil.copytree(tmp_path / "compiled", stopped)

    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    with monkeypatch.context() as patch:
        patch.setattr(AtomicCheckpointIO, "save_checkpoint", save_and_copy)
        assert run_here(*arguments("fit", tiny_shards, tmp_path / "compiled", *given, *COMPILED)) == 0
    assert torch._dynamo.utils.counters["frames"]["ok"] > 0
    assert run_here(*arguments("fit", tiny_shards, tmp_path / "plain", *given)) == 0
    assert checkpoint(tmp_path / "compiled")["state_dict"].keys() == checkpoint(tmp_path / "plain")["state_dict"].keys()
    assert_same_training(tmp_path / "compiled", tmp_path / "plain", rtol=1e-3, atol=2e-4)
    assert run_here(*arguments("fit", tiny_shards, stopped, *given, *COMPILED, "--ckpt_path", "last")) == 0
    expected, found = checkpoint(tmp_path / "compiled"), checkpoint(stopped)
    assert found["global_step"] == expected["global_step"] == 8
    assert all(torch.equal(found["state_dict"][key], value) for key, value in expected["state_dict"].items())
