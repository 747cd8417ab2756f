"""ARI and MSE of runs on single slides, by variant and seed: their means, and the entries of results.json."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.science.entries import make_entry, read_numbers
from stalign_pl.evaluation.results import ALL, Row


@dataclass(frozen=True)
class Score:
    """One number of results.json: of a run's Row, what the tables use."""

    slide: str
    row: str
    metric: str
    mean: float


Scores = Sequence[Row | Score]
"""A run's numbers, of every slide."""

Results = Mapping[str, Mapping[int, Scores]]
"""Variant -> seed -> numbers."""


def mean_scores(rows: Scores, patients: tuple[str, ...], name: str = "stalign") -> tuple[float | None, float | None]:
    """Return the mean ARI (tied mixture) and MSE of a row over the slides of some patients.

    Args:
        rows: of one run.
        patients: how the names of their slides end.
        name: of the row: the model, or a floor.
    """
    found = []
    for metric in ("ari", "mse"):
        values = [
            row.mean
            for row in rows
            if row.slide != ALL and row.slide.endswith(patients) and (row.row, row.metric) == (name, metric)
        ]
        found.append(statistics.mean(values) if values else None)
    return found[0], found[1]


def make_entries(results: Results, seed: str, floors: Sequence[str]) -> list[dict[str, str | int | float | None]]:
    """Return what a table is made from, an entry a variant, seed, slide and row; a run's own results.json has the rest.

    Args:
        results: by variant, `ours` one of them.
        seed: what a seed is called, `cohort` or `seed`.
        floors: rows beside the model's that are wanted of ours.
    """
    found: dict[tuple[str, int, str, str], dict[str, float]] = {}
    for variant, by_seed in results.items():
        wanted = ("stalign", *floors) if variant == "ours" else ("stalign",)
        for number, rows in by_seed.items():
            for row in rows:
                if row.slide != ALL and row.row in wanted and row.metric in ("ari", "mse"):
                    found.setdefault((variant, number, row.slide, row.row), {})[row.metric] = row.mean
    keys = ("variant", seed, "slide", "row")
    return [make_entry(dict(zip(keys, place, strict=True)), numbers) for place, numbers in found.items()]


def read_scores(path: Path, seed: str) -> dict[str, dict[int, list[Score]]]:
    """Read what `make_entries` made, back from a results.json."""
    results: dict[str, dict[int, list[Score]]] = {}
    for entry in json.loads(path.read_text()):
        scores = results.setdefault(entry["variant"], {}).setdefault(entry[seed], [])
        scores += [Score(entry["slide"], entry["row"], *number) for number in read_numbers(entry).items()]
    return results
