"""SIGTERM and SIGUSR1: the run saves, ends with 75, and goes on as if it had not been stopped."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch

from tests.support.forked import ended, start_ranks
from tests.support.probes import probe
from tests.support.runs import QUICK, arguments, logged, run_here, start
from tests.support.uninterrupted import OPTIONS, SELDOM, STEPS_AN_EPOCH, Uninterrupted, assert_same_end


@pytest.mark.parametrize(
    ("sent", "step"),
    [
        ({"step": 1, "name": "SIGUSR1", "times": 2}, 1),
        ({"step": STEPS_AN_EPOCH}, STEPS_AN_EPOCH),
        ({"step": STEPS_AN_EPOCH, "evaluating": True}, STEPS_AN_EPOCH),
        pytest.param({"step": STEPS_AN_EPOCH + 3}, STEPS_AN_EPOCH + 3, marks=pytest.mark.long),
    ],
    ids=["twice", "last batch", "evaluation", "second epoch"],
)
def test_a_signalled_run_saves_and_goes_on_bit_for_bit(
    sent: dict,
    step: int,
    uninterrupted: Uninterrupted,
    tiny_shards: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = arguments("fit", tiny_shards, tmp_path, *OPTIONS, *SELDOM, *probe("SignalAt", **sent))
    assert run_here(*given) == 75
    name = sent.get("name", "SIGTERM")
    last = tmp_path / "tiny" / "checkpoints" / "last.ckpt"
    assert f"{name}: stopped at step {step}; goes on from {last} with --ckpt_path last" in capsys.readouterr().out
    assert torch.load(last, weights_only=True)["global_step"] == step
    assert run_here(*given, "--ckpt_path", "last") == 0
    assert_same_end(tmp_path / "tiny", uninterrupted.run)
    assert logged(tmp_path / "tiny") == logged(uninterrupted.run)


@pytest.mark.long
@pytest.mark.parametrize(("sent", "step"), [({"step": 2, "evaluating": True}, 3), ({"step": 2}, 3), ({"step": 5}, 5)])
def test_evaluations_within_an_epoch_are_not_lost(
    sent: dict, step: int, tiny_shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """After the batch that an evaluation follows there is nothing to leave with yet: the run takes one more."""
    given = (*OPTIONS, *SELDOM, "--trainer.val_check_interval", "2")
    assert run_here(*arguments("fit", tiny_shards, tmp_path / "whole", *given)) == 0
    stopped = arguments("fit", tiny_shards, tmp_path / "stopped", *given, *probe("SignalAt", **sent))
    assert run_here(*stopped) == 75
    assert f"stopped at step {step};" in capsys.readouterr().out
    assert run_here(*stopped, "--ckpt_path", "last") == 0
    assert_same_end(tmp_path / "stopped" / "tiny", tmp_path / "whole" / "tiny")
    assert logged(tmp_path / "stopped" / "tiny") == logged(tmp_path / "whole" / "tiny")


def test_a_signal_before_training_saves_nothing(
    tiny_shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = arguments("fit", tiny_shards, tmp_path, *QUICK, *probe("SignalAt", step=0, evaluating=True))
    assert run_here(*given) == 75
    assert "stopped at step 0; nothing was saved yet" in capsys.readouterr().out
    assert not (tmp_path / "tiny" / "checkpoints").exists()


def test_a_signal_while_the_program_starts_ends_it_with_75(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("stalign_pl.cli.lightning.STAlignCLI", lambda: os.kill(os.getpid(), signal.SIGUSR1))
    assert run_here("fit") == 75
    assert "SIGUSR1 outside training: nothing to save" in capsys.readouterr().out


@pytest.fixture(scope="module")
def two(tiny_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run of two processes."""
    folder = tmp_path_factory.mktemp("two")
    given = arguments("fit", tiny_shards, folder, *OPTIONS, *SELDOM)
    assert ended(*start_ranks(*given, printed=folder / "printed")) == [0, 0], (folder / "printed").read_text()
    return folder / "tiny"


@pytest.mark.parametrize(
    "sent",
    [{"times": 2}, pytest.param({}, marks=pytest.mark.long), pytest.param({"rank": 1}, marks=pytest.mark.long)],
    ids=["to both, twice", "to both", "to one"],
)
def test_two_processes_stop_at_one_batch_and_go_on_bit_for_bit(
    sent: dict, two: Path, tiny_shards: Path, tmp_path: Path
) -> None:
    """Rank 0 reports: the other ends well, or srun would take it for the one that failed."""
    given = arguments("fit", tiny_shards, tmp_path, *OPTIONS, *SELDOM, *probe("SignalAt", step=2, **sent))
    printed = tmp_path / "printed"
    assert ended(*start_ranks(*given, printed=printed)) == [75, 0], printed.read_text()
    assert printed.read_text().count("stopped at step 2; goes on from") == 1
    assert ended(*start_ranks(*given, "--ckpt_path", "last", printed=printed)) == [0, 0], printed.read_text()
    assert_same_end(tmp_path / "tiny", two)
    assert logged(tmp_path / "tiny") == logged(two)


def test_before_training_a_signal_to_one_process_stops_both(tiny_shards: Path, tmp_path: Path) -> None:
    given = arguments("fit", tiny_shards, tmp_path, *QUICK, *probe("SignalAt", step=0, evaluating=True, rank=1))
    assert ended(*start_ranks(*given, printed=tmp_path / "printed")) == [75, 0], (tmp_path / "printed").read_text()
    assert not (tmp_path / "tiny" / "checkpoints").exists()


@pytest.mark.long
@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_to_one_of_the_processes_that_lightning_starts(rank: int, tiny_shards: Path, tmp_path: Path) -> None:
    """Lightning kills all of them when one that it started ends with another status than 0."""
    given = arguments("fit", tiny_shards, tmp_path, *OPTIONS, *SELDOM, *probe("SignalAt", step=2, rank=rank))
    process = start(*given, "--trainer.devices", "2", "--trainer.strategy", "ddp")
    printed, _ = process.communicate(timeout=300)
    assert process.returncode == 75, printed[-4000:]
    assert printed.count("stopped at step 2; goes on from") == 1
    assert torch.load(tmp_path / "tiny" / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 2
