"""metrics.csv over stops and starts, what a checkpoint's word means, and where an earlier run goes."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch

from stalign_pl.errors import ConfigError
from stalign_pl.runs.checkpoint_io import AtomicCheckpointIO
from stalign_pl.runs.folder import find_checkpoint, find_resume_point, set_aside_earlier_run
from stalign_pl.runs.loggers import MetricsCSV


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def checkpoint(run: Path, name: str) -> Path:
    path = run / "checkpoints" / f"{name}.ckpt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(name.encode())
    return path


def test_a_row_is_on_disk_when_it_is_logged_and_new_columns_join_at_the_end(tmp_path: Path) -> None:
    logger = MetricsCSV(tmp_path / "run")
    logger.log_metrics({"loss": 0.1}, step=0)
    assert rows(tmp_path / "run") == [{"step": "0", "loss": "0.1"}]
    logger.log_metrics({"loss": torch.tensor(2.0)}, step=1)
    logger.log_metrics({"ari": 0.5}, step=1)
    logger.log_metrics({"loss": float("nan"), "ari": -1e-30}, step=2)
    assert rows(tmp_path / "run") == [
        {"step": "0", "loss": "0.1", "ari": ""},
        {"step": "1", "loss": "2.0", "ari": ""},
        {"step": "1", "loss": "", "ari": "0.5"},
        {"step": "2", "loss": "nan", "ari": "-1e-30"},
    ]
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["metrics.csv"]


def test_a_resumed_run_forgets_what_it_takes_again(tmp_path: Path) -> None:
    logger = MetricsCSV(tmp_path)
    for step in range(5):
        logger.log_metrics({"loss": step}, step)
    again = MetricsCSV(tmp_path)
    again.forget_from(3)
    again.log_metrics({"loss": 30.0, "new": 1.0}, 3)
    assert [(row["step"], row["loss"], row["new"]) for row in rows(tmp_path)] == [
        ("0", "0.0", ""),
        ("1", "1.0", ""),
        ("2", "2.0", ""),
        ("3", "30.0", "1.0"),
    ]


def test_a_file_that_was_cut_off_before_its_first_row_gets_its_columns(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").touch()
    logger = MetricsCSV(tmp_path)
    logger.forget_from(0)
    logger.log_metrics({"loss": 1.0}, 0)
    logger.log_metrics({"ari": 0.5}, 1)
    assert rows(tmp_path) == [{"step": "0", "loss": "1.0", "ari": ""}, {"step": "1", "loss": "", "ari": "0.5"}]


def test_words_and_paths_of_checkpoints(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no checkpoint best or last"):
        find_checkpoint(None, tmp_path)
    last = checkpoint(tmp_path, "last")
    assert find_checkpoint(None, tmp_path) == find_checkpoint("last", tmp_path) == last
    with pytest.raises(ConfigError, match="no checkpoint best in"):
        find_checkpoint("best", tmp_path)
    best = checkpoint(tmp_path, "best")
    assert find_checkpoint(None, tmp_path) == find_checkpoint(str(best), tmp_path) == best
    with pytest.raises(ConfigError, match=r"no such file; known words: best, last"):
        find_checkpoint("lsat", tmp_path)


def test_only_last_may_be_missing_when_a_run_starts(tmp_path: Path) -> None:
    assert find_resume_point(None, tmp_path) is None
    assert find_resume_point("last", tmp_path) is None
    with pytest.raises(ConfigError, match="no checkpoint best"):
        find_resume_point("best", tmp_path)
    assert find_resume_point("last", checkpoint(tmp_path, "last").parents[1]) == tmp_path / "checkpoints" / "last.ckpt"


def test_earlier_runs_are_kept_apart_one_by_one(tmp_path: Path) -> None:
    assert set_aside_earlier_run(tmp_path / "none") is None
    (tmp_path / "notes.txt").write_text("the user's own")
    (tmp_path / "wandb").mkdir()
    assert set_aside_earlier_run(tmp_path) is None
    for number in (1, 2):
        checkpoint(tmp_path, f"best{number}")
        (tmp_path / "metrics.csv").write_text(f"run {number}")
        assert set_aside_earlier_run(tmp_path) == tmp_path / "earlier" / f"00{number}"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["earlier", "notes.txt", "wandb"]
    assert (tmp_path / "earlier" / "001" / "metrics.csv").read_text() == "run 1"
    assert (tmp_path / "earlier" / "002" / "checkpoints" / "best2.ckpt").is_file()


def test_a_checkpoint_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    """An object that torch cannot save stands for a full disk: the write fails half way."""
    path = tmp_path / "checkpoints" / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"weights": torch.ones(3)}, path)
    with pytest.raises((AttributeError, TypeError, RuntimeError)):
        AtomicCheckpointIO().save_checkpoint({"weights": torch.zeros(3), "code": (part for part in ())}, path)
    assert [other.name for other in path.parent.iterdir()] == ["last.ckpt"]
    assert torch.equal(torch.load(path, weights_only=True)["weights"], torch.ones(3))
