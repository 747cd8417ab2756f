"""The losses that tiny.yaml does not name, and gene regression, each through a whole short run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from stalign_pl.cli.main import main
from tests.support.runs import QUICK, arguments, logged, run_here

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


def test_gene_regression_learns_beside_the_contrasts_in_micro_batches_too(tiny_shards: Path, tmp_path: Path) -> None:
    """Logged losses fall; the checkpoint holds the heads; a step in micro-batches is the step of the whole batch."""
    weights = ("--model.regression.image_to_gene", "1", "--model.regression.niche_to_gene", "10")
    given = (*SHORT, *weights, "--trainer.max_epochs", "6", "--data.augmentation.mask_genes", "0.2")
    assert run_here(*arguments("fit", tiny_shards, tmp_path / "whole", *given)) == 0
    rows = [row for row in logged(tmp_path / "whole" / "tiny") if "train/loss" in row]
    for name in ("image_to_gene", "niche_to_gene"):
        losses = [float(row[f"train/loss_{name}"]) for row in rows]
        assert 0.3 < losses[0] < 3  # of standardised genes about their variance, 1
        assert sum(losses[-4:]) < 0.95 * sum(losses[:4])
    parts = [(0.4, "spot"), (0.3, "niche"), (0.3, "cross"), (1, "image_to_gene"), (10, "niche_to_gene")]
    for row in rows:
        total = sum(weight * float(row[f"train/loss_{name}"]) for weight, name in parts)
        assert float(row["train/loss"]) == pytest.approx(total, rel=1e-5)
        assert "train/loss_spot_to_gene" not in row
    saved = torch.load(tmp_path / "whole" / "tiny" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    heads = {name: list(value.shape) for name, value in saved.items() if name.startswith("regression.")}
    assert heads == {
        **{"regression.heads.image_to_gene.weight": [30, 32], "regression.heads.image_to_gene.bias": [30]},
        **{"regression.heads.niche_to_gene.weight": [30, 16], "regression.heads.niche_to_gene.bias": [30]},
    }
    assert run_here(*arguments("fit", tiny_shards, tmp_path / "parts", *given, "--model.micro_batch", "4")) == 0
    found = [row for row in logged(tmp_path / "parts" / "tiny") if "train/loss" in row]
    assert [float(row["train/loss"]) for row in found] == pytest.approx(
        [float(row["train/loss"]) for row in rows], abs=5e-3
    )
