"""Who writes into a run's folder: the last to take it; whoever had it before is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from stalign_pl.errors import TrainingError
from stalign_pl.runs.checkpoint_io import AtomicCheckpointIO
from stalign_pl.runs.loggers import MetricsCSV
from stalign_pl.runs.writer import RunWriter


@pytest.fixture(autouse=True)
def no_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLURM_JOB_ID", "SLURM_RESTART_COUNT"):
        monkeypatch.delenv(name, raising=False)


def taken(run: Path) -> RunWriter:
    writer = RunWriter(run)
    writer.take()
    return writer


def test_the_last_to_take_the_folder_writes(tmp_path: Path) -> None:
    """Two writers of one process: it is the token that tells them apart."""
    first = taken(tmp_path)
    first.check()
    second = taken(tmp_path)
    second.check()
    with pytest.raises(TrainingError, match=rf"{tmp_path.name} was taken over by process \d+ on "):
        first.check()
    assert json.loads((tmp_path / "writer.json").read_text())["job"] is None


def test_a_checkpoint_and_a_row_of_another_writer_are_not_written(tmp_path: Path) -> None:
    path, first = tmp_path / "checkpoints" / "last.ckpt", taken(tmp_path)
    checkpoints, metrics = AtomicCheckpointIO(first), MetricsCSV(tmp_path, first)
    checkpoints.save_checkpoint({"weights": torch.ones(1)}, path)
    metrics.log_metrics({"loss": 1.0}, 0)
    before = path.read_bytes(), (tmp_path / "metrics.csv").read_bytes()
    taken(tmp_path)
    with pytest.raises(TrainingError, match="taken over"):
        checkpoints.save_checkpoint({"weights": torch.zeros(1)}, path)
    with pytest.raises(TrainingError, match="taken over"):
        metrics.log_metrics({"loss": 2.0}, 1)
    assert (path.read_bytes(), (tmp_path / "metrics.csv").read_bytes()) == before
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]


def test_a_folder_that_was_moved_away_is_not_written(tmp_path: Path) -> None:
    writer = taken(tmp_path)
    (tmp_path / "writer.json").rename(tmp_path / "elsewhere.json")
    with pytest.raises(TrainingError, match="was moved away"):
        writer.check()


def test_an_earlier_start_of_a_job_does_not_take_the_folder_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    first = taken(tmp_path)
    monkeypatch.setenv("SLURM_RESTART_COUNT", "2")
    again = taken(tmp_path)
    with pytest.raises(TrainingError, match="taken over by job 7, restart 2, process"):
        first.check()
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    with pytest.raises(TrainingError, match="in use by a later start of this job: job 7, restart 2"):
        taken(tmp_path)
    again.check()
    monkeypatch.setenv("SLURM_JOB_ID", "8")
    taken(tmp_path)


def test_taking_removes_what_a_killed_writer_left(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    for name in (".last.ckpt.ab12.tmp", "last.ckpt"):
        (folder / name).write_bytes(b"0")
    taken(tmp_path)
    assert [path.name for path in folder.iterdir()] == ["last.ckpt"]


def test_who_never_took_it_is_not_asked(tmp_path: Path) -> None:
    RunWriter(tmp_path).check()
    assert not (tmp_path / "writer.json").exists()


def test_a_folder_that_a_live_process_trains_in_is_not_taken(tmp_path: Path) -> None:
    other = subprocess.Popen([sys.executable, "-c", "input()", "stalign_pl"], stdin=subprocess.PIPE)
    taken(tmp_path)
    path = tmp_path / "writer.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "pid": other.pid, "token": "another"}))
    before = path.read_bytes()
    with pytest.raises(TrainingError, match=rf"process {other.pid} on .* still trains in it"):
        RunWriter(tmp_path).take()
    assert path.read_bytes() == before
    other.communicate(b"\n")
    taken(tmp_path).check()
