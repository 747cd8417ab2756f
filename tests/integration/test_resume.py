"""A run that was stopped goes on as if it had not been: the same batches, weights, metrics and results."""

from __future__ import annotations

import json
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.support.forked import start_forked
from tests.support.runs import QUICK, arguments, logged, run_here
from tests.support.uninterrupted import EPOCHS, OPTIONS, STEPS_AN_EPOCH, Uninterrupted, assert_same_end, weights


@pytest.mark.parametrize("step", [1, STEPS_AN_EPOCH - 1, STEPS_AN_EPOCH, STEPS_AN_EPOCH + 2])
def test_a_run_resumed_from_any_step_ends_bit_for_bit_as_an_uninterrupted_one(
    step: int, uninterrupted: Uninterrupted, tiny_shards: Path, tmp_path: Path
) -> None:
    """Within an epoch, before its last batch and at its end; with dropout and augmentation on."""
    run = Path(shutil.copytree(uninterrupted.at_step[step], tmp_path / "tiny"))
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


def kill_and_go_on(given: list[str], run: Path, printed: Path, random: np.random.Generator) -> set[int]:
    """Start a run or go on with it, and kill it at a random moment of the next steps; check what it left.

    Returns the step whose row is not in metrics.csv, if the kill fell between its checkpoint and its row.
    """
    after, wait = reached(run) + int(random.integers(0, 3)), float(random.random() / 4)
    process = start_forked(*given, "--ckpt_path", "last", printed=printed)
    limit = time.monotonic() + 300
    while process.is_alive() and reached(run) < max(after, 1):
        assert time.monotonic() < limit
        time.sleep(0.01)
    process.join(wait)
    process.kill()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL), printed.read_text()
    json.loads((run / "results.json").read_text())
    for picture in (run / "figures").glob("*.png"):
        Image.open(picture).load()
    assert weights(run)
    return {saved_step(run) - 1} - set(trained_steps(run))


def trained_steps(run: Path) -> list[int]:
    if not (run / "metrics.csv").exists():
        return []
    return [int(row["step"]) for row in logged(run) if "train/loss" in row]


def reached(run: Path) -> int:
    """How many steps the rows of metrics.csv go up to."""
    return max(trained_steps(run), default=-1) + 1


def saved_step(run: Path) -> int:
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]


@pytest.mark.parametrize(("seed", "kills"), [(0, 5), pytest.param(1, 20, marks=pytest.mark.long)])
def test_a_run_killed_again_and_again_ends_bit_for_bit_as_one_that_was_not(
    seed: int, kills: int, uninterrupted: Uninterrupted, tiny_shards: Path, tmp_path: Path
) -> None:
    """Runs that came to their end under the last kill begin anew, until there were so many kills."""
    random, number = np.random.default_rng(seed), 0
    steps = STEPS_AN_EPOCH * EPOCHS
    while kills > 0:
        number += 1
        run, without_row = tmp_path / str(number) / "tiny", set()
        given = arguments("fit", tiny_shards, run.parent, *OPTIONS)
        run.parent.mkdir()
        while kills > 0 and reached(run) < steps:
            without_row |= kill_and_go_on(given, run, run.parent / "printed", random)
            kills -= 1
        assert run_here(*given, "--ckpt_path", "last") == 0
        assert_same_end(run, uninterrupted.run)
        assert trained_steps(run) == [step for step in range(steps) if step not in without_row]


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
