"""A table over cohorts: mean and sd of each line, and how the first line's numbers differ from it, pair by pair."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.machine import write_results
from benchmarks.science.demo_runs import number
from benchmarks.science.entries import make_entry, read_numbers
from stalign_pl.evaluation.results import Row

FLOORS = (
    *("untrained", "image", "pixels", "pca", *(f"pca_smooth{rounds}" for rounds in range(1, 7))),
    *("train_pca", "train_pca_smooth1", "train_pca_smooth2", "train_niche_pca", "train_niche_pca_smooth1"),
    *("coordinates", "constant", "oracle"),
)

SPLITS = ("test", "val")
"""A table of each, in this order."""

Results = dict[int, dict[str, list[Row]]]
"""Cohort seed -> run -> the means over slides of its results."""


@dataclass(frozen=True)
class Line:
    """One line: which run's rows hold its ARI and its MSE."""

    title: str
    run: str
    ari: str = "stalign"
    mse: str = "stalign"

    def pick(self, rows: list[Row], split: str) -> dict[str, float]:
        """Return the line's primary numbers by metric, without those that the rows do not hold."""
        names = {"ari": self.ari, "mse": self.mse, "pearson": self.mse}
        found = {metric: number(rows, split, name, metric) for metric, name in names.items()}
        return {metric: value for metric, value in found.items() if value is not None}


@dataclass(frozen=True)
class Entry:
    """What a cohort gives to a line of a split's table.

    Attributes:
        cohort: its seed.
        run: that the numbers are of.
        split: `test` or `val`.
        row: the line's title.
        numbers: means over slides by metric, `ari`, `mse` and `pearson`; without those that the run does not have.
    """

    cohort: int
    run: str
    split: str
    row: str
    numbers: dict[str, float]


def floors(run: str) -> list[Line]:
    """A line for every floor of a run."""
    return [Line(name, run, name, name) for name in FLOORS]


def pick_entries(results: Results, lines: Sequence[Line]) -> list[Entry]:
    """Return all that the tables are made from, cohort by cohort, in the order of the lines."""
    entries = [
        Entry(seed, line.run, split, line.title, line.pick(runs[line.run], split))
        for seed, runs in results.items()
        for split in SPLITS
        for line in lines
    ]
    return [entry for entry in entries if entry.numbers]


def paired_table(entries: Sequence[Entry], split: str) -> list[str]:
    """Markdown of one split; the others are compared with the first row."""
    rows: dict[str, dict[int, Entry]] = {}
    for entry in entries:
        if entry.split == split:
            rows.setdefault(entry.row, {})[entry.cohort] = entry
    ours = next(iter(rows.values()))
    run = next(iter(ours.values())).run
    written = [
        f"### {split} patients",
        "",
        f"| row | ARI | {run} - row | MSE | row - {run} | Pearson r |",
        "|---|---|---|---|---|---|",
    ]
    for title, own in rows.items():
        cells = [title, *_cells(own, ours, "ari", 1), *_cells(own, ours, "mse", -1), *_cells(own, ours, "pearson", 0)]
        written.append("| " + " | ".join(cells) + " |")
    return [*written, ""]


def _cells(row: dict[int, Entry], ours: dict[int, Entry], metric: str, sign: int) -> list[str]:
    """The mean and, with a sign, the paired difference from ours; empty where a cohort does not have the number."""
    values = [row[cohort].numbers[metric] for cohort in ours if cohort in row and metric in row[cohort].numbers]
    if len(values) < len(ours):
        return ["", ""] if sign else [""]
    if not sign:
        return [spread(values)]
    if row is ours:
        return [spread(values), ""]
    gain = [sign * (own.numbers[metric] - value) for own, value in zip(ours.values(), values, strict=True)]
    return [spread(values), f"{spread(gain)} ({in_sds(gain)})"]


def spread(values: Sequence[float], sign: str = "") -> str:
    """Mean and, of several, standard deviation; `sign` "+" also marks a mean that is not negative."""
    deviation = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):{sign}.3f}{deviation}"


def in_sds(gain: list[float]) -> str:
    """The mean paired difference in units of its standard deviation over cohorts."""
    deviation = statistics.stdev(gain)
    return f"{statistics.mean(gain) / deviation:+.1f} sd" if deviation else f"{math.copysign(math.inf, gain[0])} sd"


def write(out: Path, lines: list[str], entries: Sequence[Entry]) -> None:
    """Write table.md, and in results.json what it is made from; a run's own results.json has the rest."""
    found = []
    for entry in entries:
        place = {"cohort": entry.cohort, "run": entry.run, "split": entry.split, "row": entry.row}
        found.append(make_entry(place, entry.numbers))
    write_results(out, lines, found)


def read_entries(path: Path) -> list[Entry]:
    """Read what `write` wrote, from a results.json."""
    return [
        Entry(entry["cohort"], entry["run"], entry["split"], entry["row"], read_numbers(entry))
        for entry in json.loads(path.read_text())
    ]
