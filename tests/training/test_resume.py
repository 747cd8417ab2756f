"""A run that was stopped goes on as if it had not been: the same batches, weights, metrics and results."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from stalign_pl.callbacks import AtomicCheckpointIO
from tests.training.runs import QUICK, arguments, logged, run_here, start

STEPS_AN_EPOCH, EPOCHS = 4, 2
OPTIONS = (
    *("--last_checkpoint.every_n_train_steps", "1", "--model.model.init_args.spot_gene.init_args.dropout", "0.2"),
    *QUICK,
)


@dataclass
class Uninterrupted:
    """A whole run, and its folder as it stood when each checkpoint had just been written."""

    run: Path
    at_step: dict[int, Path]


def weights(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def assert_same_end(run: Path, whole: Path) -> None:
    expected, found = weights(whole), weights(run)
    assert expected.keys() == found.keys()
    assert [key for key in expected if not torch.equal(expected[key], found[key])] == []
    assert json.loads((run / "results.json").read_text()) == json.loads((whole / "results.json").read_text())


@pytest.fixture(scope="module")
def uninterrupted(tiny_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Uninterrupted:
    folder = tmp_path_factory.mktemp("uninterrupted")
    states: dict[int, Path] = {}
    save = AtomicCheckpointIO.save_checkpoint

    def save_and_copy(self, checkpoint, path, storage_options=None) -> None:
        save(self, checkpoint, path, storage_options)
        if Path(path).name == "last.ckpt":
            step = checkpoint["global_step"]
            states[step] = Path(shutil.copytree(folder / "tiny", folder / f"step{step}" / "tiny"))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AtomicCheckpointIO, "save_checkpoint", save_and_copy)
        assert run_here(*arguments("fit", tiny_shards, folder, *OPTIONS)) == 0
    assert sorted(states) == list(range(1, STEPS_AN_EPOCH * EPOCHS + 1))
    return Uninterrupted(folder / "tiny", states)


@pytest.mark.parametrize("step", [1, STEPS_AN_EPOCH - 1, STEPS_AN_EPOCH, STEPS_AN_EPOCH + 2])
def test_a_run_resumed_from_any_step_ends_bit_for_bit_as_an_uninterrupted_one(
    step: int, uninterrupted: Uninterrupted, tiny_shards: Path
) -> None:
    """Within an epoch, before its last batch and at its end; with dropout and augmentation on."""
    run = uninterrupted.at_step[step]
    assert not all(torch.equal(weights(run)[key], value) for key, value in weights(uninterrupted.run).items())
    assert run_here(*arguments("fit", tiny_shards, run.parent, *OPTIONS, "--ckpt_path", "last")) == 0
    assert_same_end(run, uninterrupted.run)
    whole = logged(uninterrupted.run)
    if step % STEPS_AN_EPOCH:  # stopped between a step's checkpoint and its row: that row alone is lost
        whole = [row for row in whole if row["step"] != str(step - 1)]
    assert logged(run) == whole


def test_a_finished_run_is_left_as_it_is(uninterrupted: Uninterrupted, tiny_shards: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(uninterrupted.run, tmp_path / "tiny"))
    assert run_here(*arguments("fit", tiny_shards, tmp_path, *OPTIONS, "--ckpt_path", "last")) == 0
    assert_same_end(run, uninterrupted.run)
    assert logged(run) == logged(uninterrupted.run)


def test_kill_9_leaves_a_folder_that_goes_on(uninterrupted: Uninterrupted, tiny_shards: Path, tmp_path: Path) -> None:
    given = arguments("fit", tiny_shards, tmp_path, *OPTIONS)
    run = tmp_path / "tiny"
    random = np.random.default_rng(5)
    after, wait = int(random.integers(1, STEPS_AN_EPOCH + 2)), float(random.random() / 4)
    process = start(*given)
    limit = time.monotonic() + 300
    while not (run / "metrics.csv").exists() or len(logged(run)) < after:
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < limit
        time.sleep(0.02)
    time.sleep(wait)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    process.stdout.close()
    json.loads((run / "results.json").read_text())
    for picture in (run / "figures").glob("*.png"):
        Image.open(picture).load()
    assert weights(run)
    assert run_here(*given, "--ckpt_path", "last") == 0
    assert_same_end(run, uninterrupted.run)
    steps = [int(row["step"]) for row in logged(run) if "train/loss" in row]
    assert steps == list(range(STEPS_AN_EPOCH * EPOCHS))


def test_last_without_a_checkpoint_starts_afresh_and_says_so(
    tiny_shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = arguments("fit", tiny_shards, tmp_path, *QUICK, "--trainer.max_steps", "1", "--ckpt_path", "last")
    assert run_here(*given) == 0
    assert "no checkpoint in" in capsys.readouterr().out
    assert [row["step"] for row in logged(tmp_path / "tiny") if "train/loss" in row] == ["0"]


def test_a_second_fit_in_a_folder_mixes_nothing_of_the_first_into_it(
    uninterrupted: Uninterrupted, tiny_shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(uninterrupted.run, tmp_path / "tiny"))
    before = {path.name: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    given = arguments("fit", tiny_shards, tmp_path, *QUICK, "--trainer.max_epochs", "1", "--seed_everything", "9")
    assert run_here(*given) == 0
    assert "held an earlier run" in capsys.readouterr().out
    assert {path.name: path.read_bytes() for path in (run / "earlier" / "001").rglob("*") if path.is_file()} == before
    assert len(logged(run)) == STEPS_AN_EPOCH + 1
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]
    assert sorted(path.name for path in (run / "figures").iterdir()) == [
        "tiny_2-domains-epoch000.png",
        "tiny_2-genes-epoch000.png",
    ]
