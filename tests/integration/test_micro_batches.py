"""A step in micro-batches trains what a step over the whole batch trains, whatever goes on around it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.plugins.precision import MixedPrecision
from lightning.pytorch.trainer.connectors import accelerator_connector

from stalign_pl.runs.checkpoint_io import AtomicCheckpointIO
from tests.support.micro_batches import BARE, DRAWING, FOUR, TWO, assert_same_training, checkpoint
from tests.support.runs import arguments, logged, run_apart, run_here


def test_one_process_in_micro_batches_trains_what_two_processes_train(tiny_shards: Path, tmp_path: Path) -> None:
    """Into the second epoch, with dropout, hidden genes, clipping and averaged weights. Adam's first steps are signs of
    gradients: a weight whose gradient is rounding may move either way, by the learning rate of 1e-3 at most."""
    given = (*BARE, *DRAWING, "--trainer.max_steps", "6", "--ema.decay", "0.6", "--ema.start", "2")
    assert run_here(*arguments("fit", tiny_shards, tmp_path / "one", *given, *FOUR)) == 0
    run_apart(*arguments("fit", tiny_shards, tmp_path / "two", *given, *TWO))
    assert checkpoint(tmp_path / "one")["global_step"] == 6
    assert_same_training(tmp_path / "one", tmp_path / "two", rtol=1e-3, atol=2e-4)
    one, two = (checkpoint(tmp_path / name)["current_model_state"] for name in ("one", "two"))
    torch.testing.assert_close(one, two, rtol=1e-3, atol=2e-4)


def test_a_resumed_run_ends_bit_for_bit_alike(
    tiny_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With dropout by the generator (no `deterministic`), whose draws the second pass repeats."""
    given = [*BARE, *DRAWING, *FOUR, "--trainer.deterministic", "false", "--last_checkpoint.every_n_train_steps", "1"]
    save, stopped = AtomicCheckpointIO.save_checkpoint, tmp_path / "stopped"

    def save_and_copy(
        self: AtomicCheckpointIO, checkpoint: dict[str, Any], path: str | Path, storage_options: object = None
    ) -> None:
        save(self, checkpoint, path, storage_options)
        if checkpoint["global_step"] == 6 and not stopped.exists():
            shutil.copytree(tmp_path / "whole", stopped)

    with monkeypatch.context() as patch:
        patch.setattr(AtomicCheckpointIO, "save_checkpoint", save_and_copy)
        assert run_here(*arguments("fit", tiny_shards, tmp_path / "whole", *given)) == 0
    assert checkpoint(stopped)["global_step"] == 6
    assert run_here(*arguments("fit", tiny_shards, stopped, *given, "--ckpt_path", "last")) == 0
    expected, found = checkpoint(tmp_path / "whole"), checkpoint(stopped)
    assert found["global_step"] == expected["global_step"] == 8
    assert all(torch.equal(found["state_dict"][key], value) for key, value in expected["state_dict"].items())


def test_fp16_scales_every_part(tiny_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning offers fp16 on a GPU alone: its plugin for the CPU is put in by hand. Adam's first moment after one
    step is a tenth of the clipped gradient."""
    connector = accelerator_connector._AcceleratorConnector
    monkeypatch.setattr(
        connector,
        "_check_and_init_precision",
        lambda self: MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=256.0)),
    )
    given = (*BARE, "--trainer.max_steps", "1")
    assert run_here(*arguments("fit", tiny_shards, tmp_path / "whole", *given)) == 0
    assert run_here(*arguments("fit", tiny_shards, tmp_path / "parts", *given, *FOUR)) == 0
    assert checkpoint(tmp_path / "parts")["MixedPrecision"]["scale"] == 256
    assert [row["train/skipped_steps"] for row in logged(tmp_path / "parts" / "tiny")] == ["0.0"]
    expected, found = (checkpoint(tmp_path / name)["optimizer_states"][0]["state"] for name in ("whole", "parts"))
    assert expected.keys() == found.keys()
    for number, moments in expected.items():
        apart = (found[number]["exp_avg"] - moments["exp_avg"]).norm()
        assert apart < 0.02 * moments["exp_avg"].norm() + 1e-5
    assert max(float(moments["exp_avg"].norm()) for moments in expected.values()) > 1e-3
