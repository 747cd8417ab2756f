"""A loss that is not finite changes nothing, on no rank; too many in a row end the run by name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from stalign_pl.batch.inputs import StepInputs
from stalign_pl.batch.spot_batch import SpotBatch
from stalign_pl.data.transform import BatchTransform
from stalign_pl.runs.checkpoint_io import AtomicCheckpointIO
from tests.support.micro_batches import BARE, FOUR, TWO
from tests.support.paths import REPOSITORY
from tests.support.poisoned_run import column, poisoned
from tests.support.runs import arguments, run_here

ROW = 3


@pytest.fixture
def states(monkeypatch: pytest.MonkeyPatch) -> dict[int, dict]:
    """global_step -> the checkpoint saved then, as the run saves them."""
    saved: dict[int, dict] = {}
    save = AtomicCheckpointIO.save_checkpoint

    def keep(
        self: AtomicCheckpointIO, checkpoint: dict[str, Any], path: str | Path, storage_options: object = None
    ) -> None:
        save(self, checkpoint, path, storage_options)
        saved[checkpoint["global_step"]] = torch.load(path, weights_only=True)

    monkeypatch.setattr(AtomicCheckpointIO, "save_checkpoint", keep)
    return saved


@pytest.mark.parametrize("parts", [(), FOUR], ids=["whole", "micro-batches"])
def test_a_step_on_inputs_that_are_not_finite_changes_nothing(
    parts: tuple[str, ...],
    tiny_shards: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    states: dict[int, dict],
) -> None:
    """An image with a NaN at step 1; without micro-batches also BatchNorm, whose running statistics would keep it."""
    transform, calls = BatchTransform.forward, []

    def damaging(self: BatchTransform, batch: SpotBatch, *args: object, **kwargs: object) -> StepInputs:
        inputs = transform(self, batch, *args, **kwargs)
        calls.append((int(inputs.ids.slide[ROW]), int(inputs.ids.spot[ROW])))
        if len(calls) == 2:
            inputs.model.spot_image[ROW, 0, 5, 5] = float("nan")
        return inputs

    monkeypatch.setattr(BatchTransform, "forward", damaging)
    given = [*BARE, "--trainer.max_steps", "3", "--last_checkpoint.every_n_train_steps", "1", *parts]
    if not parts:
        name = "--model.model.init_args.spot_image.init_args.name"
        given += [name, "test_efficientnet", "--trainer.deterministic", "false"]
    assert run_here(*arguments("fit", tiny_shards, tmp_path, *given)) == 0
    before, after, later = states[1], states[2], states[3]
    assert all(torch.equal(after["state_dict"][key], value) for key, value in before["state_dict"].items())
    assert any("running_mean" in key for key in before["state_dict"]) == (not parts)
    first, second = (state["optimizer_states"][0]["state"] for state in (before, after))
    assert all(torch.equal(second[number][key], first[number][key]) for number in first for key in first[number])
    assert len(first) > 10
    assert {float(moments["step"]) for moments in later["optimizer_states"][0]["state"].values()} == {2}
    assert all(value.isfinite().all() for value in later["state_dict"].values())
    changed = [key for key, value in later["state_dict"].items() if not torch.equal(value, after["state_dict"][key])]
    assert len(changed) > 10
    assert column(tmp_path, "train/skipped_steps") == [0, 1, 1]
    assert [state["lr_schedulers"][0]["last_epoch"] for state in (before, after, later)] == [1, 2, 3]
    assert f"not finite at step 1, epoch 0, with inputs that are not finite in tiny_1: spots {calls[1][1]}\n" in (
        capsys.readouterr().out
    )


def test_one_ranks_nan_skips_the_step_on_both(tiny_shards: Path, tmp_path: Path) -> None:
    """And what follows is what one process trains that skips the same step."""
    given = (*BARE, "--trainer.max_steps", "4")
    options = arguments("fit", tiny_shards, tmp_path / "two", *given, *TWO, *poisoned(1, rank=1))
    root = REPOSITORY
    command = [sys.executable, "-m", "tests.support.poisoned", str(tmp_path), *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, timeout=400)
    assert done.returncode == 0, done.stderr[-4000:]
    ranks = [torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in range(2)]
    assert all(torch.equal(ranks[1][key], value) for key, value in ranks[0].items())
    assert column(tmp_path / "two", "train/skipped_steps") == [0, 1, 1, 1]
    assert run_here(*arguments("fit", tiny_shards, tmp_path / "one", *given, *poisoned(1))) == 0
    one = torch.load(tmp_path / "one" / "tiny" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    torch.testing.assert_close(ranks[0], one, rtol=1e-3, atol=2e-4)


def test_too_many_in_a_row_end_the_run_and_name_the_first(
    tiny_shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Step 0 is bad and 1 is not; 2, 3 and, after a resume, 4 are: three in a row, counted over the stop."""
    given = [*BARE, "--non_finite.limit", "3", "--last_checkpoint.every_n_train_steps", "1"]
    assert (
        run_here(*arguments("fit", tiny_shards, tmp_path, *given, *poisoned(0, 2, 3), "--trainer.max_epochs", "1")) == 0
    )
    assert column(tmp_path, "train/skipped_steps") == [1, 1, 2, 3]
    capsys.readouterr()
    resumed = (*poisoned(0), "--ckpt_path", "last", "--run.allow_changes", "true")  # to two epochs, with other poison
    assert run_here(*arguments("fit", tiny_shards, tmp_path, *given, *resumed)) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    for text in (
        "3 steps in a row (non_finite.limit)",
        "the first at step 2, epoch 0",
        "finite inputs in tiny_1: spots ",
    ):
        assert text in line
    assert "and 12 more" in line
