"""The table that people read: the model first, the baselines under it, what a number is worth beside it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

from stalign_pl.evaluation.results import ALL, Row, SplitName, average_over_slides

if TYPE_CHECKING:
    from rich.table import Table

METRICS = {"ari": "ARI", "nmi": "NMI", "mse": "MSE", "pearson": "Pearson"}
"""Columns, from left to right; other metrics follow under their own names."""

LOWER_IS_BETTER = ("mse",)


@dataclass(frozen=True)
class _Grid:
    """Text of a table: lines by name, columns by (metric, read-out); `best` cells are bold."""

    lines: list[str]
    columns: list[tuple[str, str]]
    text: dict[tuple[str, tuple[str, str]], str]
    best: set[tuple[str, tuple[str, str]]]
    seeds: str

    def header(self, column: tuple[str, str]) -> str:
        metric, readout = column
        return f"{METRICS.get(metric, metric)} ({readout})"


def make_table(rows: Sequence[Row], split: SplitName, marks: Sequence[str] = ()) -> Table:
    """Means over the slides of one split, for a terminal.

    Rows run from the model over its untrained self and the baselines to the oracle; columns are ARI, NMI, MSE and
    Pearson, one a read-out. The best of the rows that are not oracles is bold; '-' is a number that is not defined.

    Args:
        marks: what the reader must know of the split (not disjoint by patient, ...); they stand in the caption.

    Raises:
        EvaluationError: rows of one column that cover different slides.
    """
    from rich.markup import escape
    from rich.table import Table

    grid = _make_grid(rows, split)
    made = Table(title=f"{split}, mean over slides", caption="\n".join([grid.seeds, *map(escape, marks)]))
    made.add_column("row", no_wrap=True)
    for column in grid.columns:
        made.add_column(grid.header(column), justify="right")
    for line in grid.lines:
        cells = [(grid.text.get((line, column), "-"), (line, column) in grid.best) for column in grid.columns]
        made.add_row(line, *(f"[bold]{text}[/bold]" if bold else text for text, bold in cells))
    return made


def make_markdown(rows: Sequence[Row], marks: Sequence[str] = ()) -> str:
    """The same table for every split that has rows, as GitHub-flavoured Markdown.

    Raises:
        EvaluationError: rows of one column that cover different slides.
    """
    parts = []
    for split in get_args(SplitName):
        grid = _make_grid(rows, split)
        if not grid.lines:
            continue
        head = "| row | " + " | ".join(grid.header(column) for column in grid.columns) + " |"
        lines = [head, "|---|" + "---:|" * len(grid.columns)]
        for line in grid.lines:
            cells = [(grid.text.get((line, column), "-"), (line, column) in grid.best) for column in grid.columns]
            lines.append(f"| {line} | " + " | ".join(f"**{text}**" if bold else text for text, bold in cells) + " |")
        caption = "; ".join([grid.seeds, *marks])
        parts.append(f"### {split}, mean over slides\n\n" + "\n".join(lines) + f"\n\n{caption}\n")
    return "\n".join(parts)


def _make_grid(rows: Sequence[Row], split: SplitName) -> _Grid:
    chosen = [row for row in rows if row.split == split]
    means = [row for row in chosen if row.slide == ALL]
    given = {(row.row, row.metric, row.readout) for row in means}
    means += [row for row in average_over_slides(chosen) if (row.row, row.metric, row.readout) not in given]
    lines = sorted(dict.fromkeys(row.row for row in means), key=_rank)
    names = [*METRICS, *(row.metric for row in means)]
    columns = sorted(dict.fromkeys((row.metric, row.readout) for row in means), key=lambda c: names.index(c[0]))
    text = {(row.row, (row.metric, row.readout)): _format_cell(row) for row in means}
    best = {(row.row, column) for column in columns for row in _find_best(means, column)}
    counts = sorted({row.seeds for row in means if math.isfinite(row.sd)})
    seeds = " or ".join(map(str, counts))
    note = f"mean ± sd over {seeds} seeds; without ± one seed, or nothing random" if counts else "one seed"
    return _Grid(lines, columns, text, best, f"{note}; bold: best but for an oracle")


def _rank(name: str) -> int:
    """Model, untrained model, baselines, oracle; in order of appearance within each."""
    for rank, start in enumerate(("stalign", "untrained", "", "oracle")):
        if start and name.startswith(start):
            return rank
    return 2


def _find_best(means: Sequence[Row], column: tuple[str, str]) -> list[Row]:
    rivals = [row for row in means if (row.metric, row.readout) == column and not row.row.startswith("oracle")]
    rivals = [row for row in rivals if math.isfinite(row.mean)]
    if not rivals:
        return []
    pick = min if column[0] in LOWER_IS_BETTER else max
    top = pick(row.mean for row in rivals)
    return [row for row in rivals if row.mean == top]


def _format_cell(row: Row) -> str:
    if not math.isfinite(row.mean):
        return "-"
    return f"{row.mean:.3f} ± {row.sd:.3f}" if math.isfinite(row.sd) else f"{row.mean:.3f}"
