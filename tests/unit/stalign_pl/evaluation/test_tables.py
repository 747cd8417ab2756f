"""results.json and the tables made of it."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from stalign_pl.evaluation.checks import EvaluationError
from stalign_pl.evaluation.results import Row, average_over_slides, read_results, write_results
from stalign_pl.evaluation.tables import make_markdown, make_table

NAN = float("nan")


def ari(row: str, mean: float, slide: str = "s1", sd: float = 0.02, split: str = "test") -> Row:
    return Row("spatial_domains", split, slide, row, "tied_gmm", "ari", mean, sd, 5)


def mse(row: str, mean: float, slide: str = "s1", metric: str = "mse") -> Row:
    return Row("gene_prediction", "test", slide, row, "ridge", metric, mean, NAN, 1)


ROWS = [
    ari("oracle", 0.9),
    ari("pca", 0.3),
    ari("untrained", 0.35),
    ari("pca_smooth2", 0.5),
    ari("stalign", 0.4),
    mse("constant", 0.25),
    mse("stalign", 0.2),
    mse("constant", NAN, metric="pearson"),
    mse("stalign", 0.6, metric="pearson"),
]


def test_rows_survive_the_file(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write_results(path, ROWS, {"config": "demo.yaml", "version": "0.1.0"})
    back = read_results(path)
    assert [repr(row) for row in back] == [repr(row) for row in ROWS]  # repr, for NaN is not equal to itself
    flat = json.loads(path.read_text())
    assert list(flat[0]) == ["task", "split", "slide", "row", "readout", "metric", "mean", "sd", "seeds"]
    assert flat[7]["mean"] is None
    assert json.loads((tmp_path / "provenance.json").read_text()) == {"config": "demo.yaml", "version": "0.1.0"}
    assert sorted(file.name for file in tmp_path.iterdir()) == ["provenance.json", "results.json"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1", "is not JSON"),
        ('{"a": 1}', "list of rows, not a dict"),
        ('[{"task": "spatial_domains"}]', r"entry 0 has \['task'\], expected the keys"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(EvaluationError, match=message):
        read_results(tmp_path / "results.json")
    with pytest.raises(EvaluationError, match=r"other\.json does not exist"):
        read_results(tmp_path / "other.json")


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(EvaluationError, match=r"split is 'train'; choose from \['val', 'test'\]"):
        ari("pca", 0.3, split="train")


def test_means_are_unweighted_and_their_sd_is_that_of_the_mean() -> None:
    rows = [
        ari("pca", 0.2, "s1", 0.03),
        ari("pca", 0.5, "s2", 0.04),
        ari("all_of_it", 0.1, "s1"),
        ari("all_of_it", 0, "s2"),
    ]
    first, second = average_over_slides([*rows, ari("pca", 9.0, "all")])
    assert (first.slide, first.row, first.seeds) == ("all", "pca", 5)
    assert first.mean == pytest.approx(0.35)
    assert first.sd == pytest.approx(0.025)
    draws = np.random.default_rng(0).normal([0.2, 0.5], [0.03, 0.04], (200_000, 2)).mean(axis=1)
    assert first.sd == pytest.approx(draws.std(), rel=0.01)
    assert second.mean == pytest.approx(0.05)


def test_a_mean_over_fewer_slides_is_refused() -> None:
    rows = [ari("pca", 0.2, "s1"), ari("pca", 0.5, "s2"), ari("stalign", 0.6, "s1")]
    with pytest.raises(EvaluationError, match=r"row 'stalign' has no test ari on \['s2'\]"):
        average_over_slides(rows)
    with pytest.raises(EvaluationError, match=r"slide 's1'.*'pca', test ari by tied_gmm occurs twice"):
        average_over_slides([rows[0], rows[0]])
    assert np.isnan(average_over_slides([rows[0], replace(rows[1], mean=NAN)])[0].mean)


def test_markdown_orders_rows_and_marks_the_best_that_is_no_oracle() -> None:
    text = make_markdown([*ROWS, ari("pca", 0.1, split="val")])
    validation, test = text.split("### test")
    assert "| pca | **0.100 ± 0.020** |" in validation
    lines = [line for line in test.splitlines() if line.startswith("|")]
    assert lines[0] == "| row | ARI (tied_gmm) | MSE (ridge) | Pearson (ridge) |"
    assert lines[2:] == [
        "| stalign | 0.400 ± 0.020 | **0.200** | **0.600** |",
        "| untrained | 0.350 ± 0.020 | - | - |",
        "| pca | 0.300 ± 0.020 | - | - |",
        "| pca_smooth2 | **0.500 ± 0.020** | - | - |",
        "| constant | - | 0.250 | - |",
        "| oracle | 0.900 ± 0.020 | - | - |",
    ]
    assert "over 5 seeds" in test


def test_given_means_are_used_and_missing_ones_made() -> None:
    rows = [ari("pca", 0.3), ari("pca", 0.7, "all"), ari("stalign", 0.4)]
    text = make_markdown(rows)
    assert "| pca | **0.700" in text
    assert "| stalign | 0.400" in text


def test_the_terminal_table_shows_the_same() -> None:
    console = Console(width=120, record=True, force_terminal=True, file=io.StringIO())
    console.print(make_table(ROWS, "test"))
    plain = console.export_text(clear=False)
    assert plain.index("stalign") < plain.index("untrained") < plain.index("pca_smooth2") < plain.index("oracle")
    assert "0.500 ± 0.020" in plain
    assert "5 seeds" in plain
    assert "\x1b[1m0.500 ± 0.020" in console.export_text(styles=True)
    assert make_table(ROWS, "val").row_count == 0


def test_marks_stand_under_every_table() -> None:
    marks = ["not disjoint by patient: the paper's split", "a slide stands for a patient in 2 of 3 [odd] slides"]
    text = make_markdown([ari("pca", 0.3), ari("pca", 0.4, split="val")], marks)
    assert text.count(f"bold: best but for an oracle; {marks[0]}; {marks[1]}\n") == 2
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(make_table(ROWS, "test", marks))
    plain = console.export_text()
    for mark in marks:
        assert mark in " ".join(plain.split())
