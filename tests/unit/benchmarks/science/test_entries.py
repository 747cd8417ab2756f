"""What the science benchmarks write into results.json, and read back."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from stalign_pl.evaluation.results import ALL, Row, SplitName


def mean_row(split: SplitName, row: str, readout: str, metric: str, mean: float) -> Row:
    return Row("spatial_domains", split, ALL, row, readout, metric, mean, math.nan, 1)


def test_entries_hold_what_the_lines_print(benchmark: Callable[[str], ModuleType], tmp_path: Path) -> None:
    """Primary read-outs of the lines' rows; a number that is not there has no key, one that is not defined is null."""
    table = benchmark("science.paired_table")
    results = {
        seed: {
            "model": [
                mean_row("test", "stalign", "kmeans", "ari", 0.9),
                mean_row("test", "stalign", "tied_gmm", "ari", 0.5 + seed / 8),
                mean_row("test", "stalign", "tied_gmm", "nmi", 0.9),
                mean_row("val", "stalign", "ridge", "pearson", math.nan),
                mean_row("test", "stalign_spot", "tied_gmm", "ari", 0.9),
                mean_row("test", "pca", "tied_gmm", "ari", 0.25),
            ]
        }
        for seed in (7, 8)
    }
    lines = [table.Line("stalign", "model"), *table.floors("model")]
    entries = table.pick_entries(results, lines)
    table.write(tmp_path, [], entries)
    text = (tmp_path / "results.json").read_text()
    assert json.loads(text)[:3] == [
        {"cohort": 7, "run": "model", "split": "test", "row": "stalign", "ari": 1.375},
        {"cohort": 7, "run": "model", "split": "test", "row": "pca", "ari": 0.25},
        {"cohort": 7, "run": "model", "split": "val", "row": "stalign", "pearson": None},
    ]
    assert text.count("\n") == len(entries) + 2 == 8
    read = table.read_entries(tmp_path / "results.json")
    assert table.paired_table(read, "test") == table.paired_table(entries, "test")
    assert math.isnan(read[2].numbers["pearson"])
    stalign, pca = table.paired_table(read, "test")[4:6]
    assert stalign == "| stalign | 1.438 ± 0.088 |  |  |  |  |"
    assert pca == "| pca | 0.250 ± 0.000 | 1.188 ± 0.088 (+13.4 sd) |  |  |  |"


def test_a_row_that_a_cohort_does_not_have_has_no_mean(benchmark: Callable[[str], ModuleType]) -> None:
    table = benchmark("science.paired_table")
    entries = [
        table.Entry(1, "model", "val", "stalign", {"ari": 0.5}),
        table.Entry(1, "model", "val", "pca", {"ari": 0.25, "mse": 1.0}),
        table.Entry(2, "model", "val", "stalign", {"ari": 0.5}),
    ]
    assert table.paired_table(entries, "val")[-2] == "| pca |  |  |  |  |  |"


def test_scores_of_ours_have_the_floors(benchmark: Callable[[str], ModuleType], tmp_path: Path) -> None:
    """Of every variant the model's ARI and MSE on every slide, of ours the floors that are printed, too."""
    scores = benchmark("science.slide_scores")
    rows = [
        Row("spatial_domains", "val", slide, row, "tied_gmm", metric, 0.5, math.nan, 1)
        for slide in ("P07", "P08", ALL)
        for row in ("stalign", "stalign_spot", "constant", "pca")
        for metric in ("ari", "nmi", "mse")
    ]
    entries = scores.make_entries({"ours": {0: rows}, "demo": {0: rows}}, "cohort", ("constant",))
    assert [(entry["variant"], entry["slide"], entry["row"]) for entry in entries] == [
        *(("ours", slide, row) for slide in ("P07", "P08") for row in ("stalign", "constant")),
        *(("demo", slide, "stalign") for slide in ("P07", "P08")),
    ]
    assert entries[0] == {"variant": "ours", "cohort": 0, "slide": "P07", "row": "stalign", "ari": 0.5, "mse": 0.5}
    (tmp_path / "results.json").write_text(json.dumps(entries))
    read = scores.read_scores(tmp_path / "results.json", "cohort")
    assert scores.mean_scores(read["ours"][0], ("P07", "P08"), "constant") == (0.5, 0.5)
    assert scores.mean_scores(read["demo"][0], ("P07",), "constant") == (None, None)
