"""Two processes train what one does: the same batches, losses and figures."""

from __future__ import annotations

from pathlib import Path

import pytest

from stalign_pl.evaluation.results import read_results
from tests.training.runs import QUICK, arguments, logged, run_apart, run_here

EPOCHS, STEPS = 5, 20
OPTIONS = (*QUICK, "--trainer.max_epochs", str(EPOCHS), "--trainer.check_val_every_n_epoch", str(EPOCHS))
TWO = ("--trainer.devices", "2", "--trainer.strategy", "ddp")


def test_two_processes_log_the_losses_of_one(tiny_shards: Path, tmp_path: Path) -> None:
    """GroupNorm and no dropout. The spots of a global batch are the same; sums over it are added in another order."""
    assert run_here(*arguments("fit", tiny_shards, tmp_path / "one", *OPTIONS)) == 0
    printed = run_apart(*arguments("fit", tiny_shards, tmp_path / "two", *OPTIONS, *TWO))
    assert "distributed_backend=gloo" in printed
    assert printed.count("before training") == 1
    one, two = (logged(tmp_path / name / "tiny") for name in ("one", "two"))
    assert len(one) == len(two) == STEPS + 1  # and one row of the evaluation
    for column in ("train/loss", "train/loss_spot", "train/loss_niche", "train/loss_cross", "train/masked_pairs"):
        expected, found = ([float(row[column]) for row in rows if column in row] for rows in (one, two))
        assert len(expected) == STEPS
        assert found == pytest.approx(expected, abs=1e-4)
        assert len(set(expected)) > 1
    for column in ("val/ari", "val/nmi", "val/gene_mse", "val/gene_pearson"):
        expected, found = ([float(row[column]) for row in rows if column in row] for rows in (one, two))
        assert found == pytest.approx(expected, abs=1e-2)
    first, second = (read_results(tmp_path / name / "tiny" / "results.json") for name in ("one", "two"))
    assert [(row.slide, row.row, row.metric) for row in first] == [(row.slide, row.row, row.metric) for row in second]
    before = [row for row in first if row.row in ("untrained", "image") and row.task == "gene_prediction"]
    assert len(before) == 8
    for row in before:
        same = [other for other in second if (other.slide, other.row, other.metric) == (row.slide, row.row, row.metric)]
        assert [other.mean for other in same if other.task == row.task] == pytest.approx([row.mean], rel=1e-4)
