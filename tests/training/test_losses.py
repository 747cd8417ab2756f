"""The losses that tiny.yaml does not name, each through a whole short run."""

from __future__ import annotations

from pathlib import Path

import pytest

from stalign_pl.__main__ import main
from tests.training.runs import QUICK, arguments, logged, run_here

NO_EVALUATION = ("--trainer.limit_val_batches", "0", "--checkpoint.monitor", "null", "--checkpoint.save_top_k", "0")
SHORT = (*QUICK, "--trainer.max_epochs", "1", *NO_EVALUATION)


def test_sigmoid_trains_scale_and_bias(tiny_shards: Path, tmp_path: Path) -> None:
    given = (
        "--model.objective",
        "stalign_pl.objectives.ThreeLevelSigmoidLoss",
        "--model.objective.other_slides",
        "0.5",
    )
    assert run_here(*arguments("fit", tiny_shards, tmp_path, *SHORT, *given)) == 0
    rows = [row for row in logged(tmp_path / "tiny") if "train/loss" in row]
    for column in ("train/bias_spot", "train/bias_cross", "train/temperature_niche", "train/loss_spot"):
        assert len({row[column] for row in rows}) == len(rows) > 1


def test_the_authors_loss_trains_on_a_table_of_clusters(
    tiny_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = arguments(
        "fit", tiny_shards, tmp_path, *SHORT, "--model.objective", "stalign_pl.objectives.ThreeLevelPairedLoss"
    )
    assert run_here(*given) == 1
    assert "data.clusters is null, and ThreeLevelPairedLoss draws its negatives" in capsys.readouterr().err
    table = tmp_path / "clusters.json"
    monkeypatch.setattr("sys.argv", ["stalign_pl", "clusters", str(tiny_shards), "--out", str(table)])
    assert main() == 0
    assert run_here(*given, "--data.clusters", str(table)) == 0
    rows = [row for row in logged(tmp_path / "tiny") if "train/loss" in row]
    assert [float(row["train/temperature_spot"]) for row in rows] == pytest.approx([0.2] * len(rows))  # not learned
    assert all(0 < float(row["train/substitute_negatives"]) < 1 for row in rows)  # eight spots of a slide, six clusters
    assert all(0 < float(row["train/loss_spot"]) < 3 for row in rows)  # log 6 at random
