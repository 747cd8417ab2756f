"""A table over cohorts: mean and sd of each line, and how the first line's numbers differ from it, pair by pair."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.machine import write_results
from benchmarks.science.demo_runs import number
from stalign_pl.evaluation.results import Row

FLOORS = (
    *("untrained", "image", "pixels", "pca", *(f"pca_smooth{rounds}" for rounds in range(1, 7))),
    *("train_pca", "train_pca_smooth1", "train_pca_smooth2", "train_niche_pca", "train_niche_pca_smooth1"),
    *("coordinates", "constant", "oracle"),
)

Results = dict[int, dict[str, list[Row]]]
"""Cohort seed -> run -> the means over slides of its results."""


@dataclass(frozen=True)
class Line:
    """One line: which run's rows hold its ARI and its MSE."""

    title: str
    run: str
    ari: str = "stalign"
    mse: str = "stalign"

    def values(self, results: Results, split: str, metric: str) -> list[float] | None:
        """A number a cohort; None where a run does not have it."""
        name = self.ari if metric == "ari" else self.mse
        found = [number(runs[self.run], split, name, metric) for runs in results.values()]
        return None if None in found else found


def floors(run: str) -> list[Line]:
    """A line for every floor of a run."""
    return [Line(name, run, name, name) for name in FLOORS]


def paired_table(results: Results, split: str, lines: Sequence[Line]) -> list[str]:
    """Markdown of one split; lines without a number are left out."""
    first, *_ = lines
    written = [
        f"### {split} patients",
        "",
        f"| row | ARI | {first.title} - row | MSE | row - {first.title} | Pearson r |",
        "|---|---|---|---|---|---|",
    ]
    for line in lines:
        cells = []
        for metric, sign in (("ari", 1), ("mse", -1), ("pearson", 0)):
            values = line.values(results, split, metric)
            if values is None:
                cells += ["", ""] if sign else [""]
                continue
            cells.append(spread(values))
            if sign:
                ours = first.values(results, split, metric)
                gain = [sign * (own - other) for own, other in zip(ours, values, strict=True)]
                cells.append("" if line is first else f"{spread(gain)} ({in_sds(gain)})")
        if any(cells):
            written.append("| " + " | ".join([line.title, *cells]) + " |")
    return [*written, ""]


def spread(values: Sequence[float], sign: str = "") -> str:
    """Mean and, of several, standard deviation; `sign` "+" also marks a mean that is not negative."""
    deviation = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):{sign}.3f}{deviation}"


def in_sds(gain: list[float]) -> str:
    """The mean paired difference in units of its standard deviation over cohorts."""
    deviation = statistics.stdev(gain)
    return f"{statistics.mean(gain) / deviation:+.1f} sd" if deviation else f"{math.copysign(math.inf, gain[0])} sd"


def write(out: Path, lines: list[str], results: Results) -> None:
    """table.md, and every number in results.json."""
    write_results(
        out,
        lines,
        [
            {
                "cohort": seed,
                "run": name,
                "split": row.split,
                "row": row.row,
                "readout": row.readout,
                "metric": row.metric,
                "mean": row.mean if math.isfinite(row.mean) else None,
            }
            for seed, runs in results.items()
            for name, found in runs.items()
            for row in found
        ],
    )
