"""A run on a set with damaged samples: goes on and counts within the limit, stops beyond it, on every rank."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from stalign_pl.evaluation.results import read_results
from tests.support.damaged import overwrite
from tests.support.runs import QUICK, arguments, logged, run_here, start

FIT = (
    *QUICK,
    "--trainer.num_sanity_val_steps",
    "0",
    "--trainer.limit_val_batches",
    "0",
    "--checkpoint.monitor",
    "null",
)
TWO = ("--trainer.devices", "2", "--trainer.strategy", "ddp")


@pytest.fixture
def shards(tiny_shards: Path, tmp_path: Path) -> Path:
    """P1, who alone trains, with spots 3 and 40 damaged."""
    folder = Path(shutil.copytree(tiny_shards, tmp_path / "set"))
    for spot in (3, 40):
        overwrite(folder, 0, spot, "niche", b"\x55\xaa\x55", 300)
    return folder


def test_within_the_limit_the_run_goes_on_and_counts(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = arguments("fit", shards, tmp_path / "runs", *FIT, "--data.bad_samples", "2")
    assert run_here(*given) == 0
    printed = capsys.readouterr().out
    for spot in (3, 40):  # once each, though every epoch meets them
        assert printed.count(f"left out a damaged sample: slide 'tiny_1', spot {spot} ({shards}/tiny_1.tar)") == 1
    rows = logged(tmp_path / "runs" / "tiny")
    counted = [float(row["train/bad_samples"]) for row in rows if "train/loss" in row]
    assert len(counted) == 8
    assert counted[-1] == 2
    assert counted == sorted(counted)


def test_read_outs_are_fitted_without_them(shards: Path, tmp_path: Path) -> None:
    """Of 64 spots 62 have embeddings; the floors before training and both read-outs take them as they are."""
    given = arguments("fit", shards, tmp_path / "runs", *QUICK, "--data.bad_samples", "2", "--data.fit_spots", "64")
    assert run_here(*given) == 0
    found = {(row.row, row.metric) for row in read_results(tmp_path / "runs" / "tiny" / "results.json")}
    assert {("stalign", "mse"), ("image", "mse"), ("train_niche_pca", "ari")} <= found


def test_beyond_the_limit_it_stops(shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_here(*arguments("fit", shards, tmp_path / "runs", *FIT, "--data.bad_samples", "1")) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    for text in ("2 damaged samples", "data.bad_samples allows 1 of 64", "spot 3 ", "spot 40 ", "checksum"):
        assert text in line


def test_a_held_out_slide_must_be_whole(tiny_shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shards = Path(shutil.copytree(tiny_shards, tmp_path / "set"))
    overwrite(shards, 1, 7, "spot", b"\x00" * 8)
    assert run_here(*arguments("fit", shards, tmp_path / "runs", *QUICK, "--data.bad_samples", "60")) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert "held-out slide" in line
    assert "slide 'tiny_2', spot 7 " in line


def test_every_rank_stops_where_one_has_met_too_many(shards: Path, tmp_path: Path) -> None:
    """Only one rank reads a damaged row: were it to stop alone, the other would wait for it in the next sum."""
    process = start(*arguments("fit", shards, tmp_path / "runs", *FIT, *TWO, "--data.bad_samples", "1"))
    printed, _ = process.communicate(timeout=300)
    assert process.returncode == 1, printed
    errors = [line for line in printed.splitlines() if line.startswith("stalign_pl: error: 2 damaged samples")]
    assert len(errors) == 2, printed  # one a rank
    assert errors[0] == errors[1]
    assert printed.count("left out a damaged sample") == 2
