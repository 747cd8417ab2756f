"""A run by a split file: its parts, its genes, and its marks wherever a number of it stands."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import anndata
import pytest

from data_prep.cli.main import main as data_prep
from stalign_pl.evaluation.results import read_results
from tests.support.runs import QUICK, arguments, run_here

MARKS = ["a slide stands for a patient in 1 of 3 slides", "the study stands for the patient in 2 of 3 slides"]
NO_LISTS = ("--data.val_patients", "null", "--data.test_patients", "null")


@pytest.fixture(scope="module")
def split_run(tiny_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, tuple[str, ...]]:
    """(shards, folder of runs, options) of an epoch of fold P1: trained on tiny_3, validated on tiny_2."""
    folder = tmp_path_factory.mktemp("split")
    shards = Path(shutil.copytree(tiny_shards, folder / "set"))
    manifest = json.loads((shards / "manifest.json").read_text())
    for slide, who in zip(manifest["slides"], ("slide", "study", "study"), strict=True):
        slide["patient_from"] = who
    (shards / "manifest.json").write_text(json.dumps(manifest))
    split = folder / "split.json"
    assert data_prep(["splits", str(shards), "--scheme", "leave_one_patient_out", "--out", str(split)]) == 0
    given = (*QUICK, *NO_LISTS, "--data.split", str(split), "--data.fold", "P1", "--data.genes.method", "all")
    assert run_here(*arguments("fit", shards, folder, *given, "--trainer.max_epochs", "1")) == 0
    return shards, folder, given


def test_the_parts_are_the_folds_and_the_marks_are_everywhere(
    split_run: tuple[Path, Path, tuple[str, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    shards, folder, given = split_run
    run = folder / "tiny"
    assert run_here(*arguments("test", shards, folder, *given)) == 0
    printed = capsys.readouterr().out
    table = (run / "table.txt").read_text()
    for text in (printed, table):
        for mark in MARKS:
            assert text.count(mark) == 2  # under val, and under test
    rows = read_results(run / "results.json")
    assert {(row.split, row.slide) for row in rows if row.slide != "all"} == {("val", "tiny_2"), ("test", "tiny_1")}
    said = json.loads((run / "provenance.json").read_text())
    split = json.loads((folder / "split.json").read_text())
    assert said["marks"] == MARKS == split["marks"]
    assert (said["split"], said["fold"], said["split_sha256"]) == (str(folder / "split.json"), "P1", split["sha256"])
    assert said["genes_measured_where_not_all"] == {}
    head = (run / "genes.tsv").read_text().splitlines()[0]
    assert head.split("\t")[0] == f"# selection {said['vocabulary_digest']}"
    assert head.split("\t")[2] == f"split {split['sha256']}"


def test_predictions_name_the_split(split_run: tuple[Path, Path, tuple[str, ...]]) -> None:
    shards, folder, given = split_run
    assert run_here(*arguments("predict", shards, folder, *given)) == 0
    assert sorted(path.name for path in (folder / "tiny" / "predictions").iterdir()) == ["tiny_1.h5ad", "tiny_2.h5ad"]
    source = anndata.read_h5ad(folder / "tiny" / "predictions" / "tiny_1.h5ad").uns["stalign"]
    assert json.loads(source["marks"]) == MARKS
    assert source["fold"] == "P1"


def test_another_folds_checkpoint_is_no_test(
    split_run: tuple[Path, Path, tuple[str, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    """P3 would test on what P1 trained on; both have all genes, so the vocabulary does not tell them apart."""
    shards, folder, given = split_run
    more = ["--data.fold", "P3", "--ckpt_path", str(folder / "tiny" / "checkpoints" / "last.ckpt")]
    assert run_here(*arguments("test", shards, folder, *given, *more)) == 1
    assert "trained on 1 slides that this configuration holds out: tiny_3" in capsys.readouterr().err
