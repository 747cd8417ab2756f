"""Another number of processes trains the same: the same batches, losses and figures; also after a stop."""

from __future__ import annotations

from pathlib import Path

import pytest

from stalign_pl.evaluation.results import read_results
from tests.support.forked import ended, start_ranks
from tests.support.probes import batches, probe
from tests.support.runs import QUICK, arguments, logged, run_apart, run_here
from tests.support.uninterrupted import OPTIONS as DRAWING
from tests.support.uninterrupted import SELDOM, Uninterrupted, weights

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


@pytest.mark.parametrize(
    ("before", "after"), [(2, 1), *[pytest.param(*pair, marks=pytest.mark.long) for pair in ((2, 4), (4, 1))]]
)
def test_a_stopped_run_goes_on_with_another_number_of_processes(
    before: int, after: int, uninterrupted: Uninterrupted, tiny_shards: Path, tmp_path: Path
) -> None:
    """With dropout and augmentation, stopped within an epoch. A thousandth of the way is allowed: sums over the batch
    are added in another order, and AdamW makes more of a small gradient's last digits."""
    ids, printed = tmp_path / "ids", tmp_path / "printed"
    given = (*DRAWING, *SELDOM, *probe("SignalAt", step=3), *probe("BatchIds", file=str(ids)))
    run = arguments("fit", tiny_shards, tmp_path / "stopped", *given)
    assert ended(*start_ranks(*run, processes=before, printed=printed)) == [75] + [0] * (before - 1)
    if after == 1:
        assert run_here(*run, "--ckpt_path", "last") == 0
    else:
        goes_on = start_ranks(*run, "--ckpt_path", "last", processes=after, printed=printed)
        assert ended(*goes_on) == [0] * after, printed.read_text()

    one = (*DRAWING, *SELDOM, *probe("BatchIds", file=str(tmp_path / "one")), "--trainer.limit_val_batches", "0")
    assert run_here(*arguments("fit", tiny_shards, tmp_path, *one, "--checkpoint.monitor", "null")) == 0
    assert batches(ids) == batches(tmp_path / "one")
    assert [len(spots) for _, spots in sorted(batches(ids).items())] == [16] * 8

    start, end, found = (
        weights(path) for path in (uninterrupted.at_step[1], uninterrupted.run, tmp_path / "stopped" / "tiny")
    )
    way = sum(float((end[key] - start[key]).square().sum()) for key in end) ** 0.5
    apart = sum(float((end[key] - found[key]).square().sum()) for key in end) ** 0.5
    assert 0 < apart < 1e-3 * way
