"""results.json: a flat list of rows, one number each, with the spread over seeds."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from stalign_pl.evaluation.checks import EvaluationError
from stalign_pl.files import write_json

SplitName = Literal["val", "test"]
Task = Literal["spatial_domains", "gene_prediction"]

ALL = "all"
"""In place of a slide: the unweighted mean over the slides."""


@dataclass(frozen=True)
class Row:
    """One number of a table.

    Attributes:
        task: `spatial_domains` or `gene_prediction`.
        split: `val` (used for choices) or `test`.
        slide: slide or fold, `all` for the mean over them.
        row: what was evaluated: `stalign`, `pca`, `pca_smooth2`, `image`, `untrained`, `constant`, `oracle`, ...
        readout: `tied_gmm`, `kmeans`, `ridge`, ...
        metric: `ari`, `nmi`, `mse`, `pearson`, ...
        mean: over the seeds; NaN where the number is not defined.
        sd: sample standard deviation over the seeds; NaN with one seed.
        seeds: number of seeds.
    """

    task: Task
    split: SplitName
    slide: str
    row: str
    readout: str
    metric: str
    mean: float
    sd: float
    seeds: int

    def __post_init__(self) -> None:
        for name, known in (("task", get_args(Task)), ("split", get_args(SplitName))):
            if getattr(self, name) not in known:
                raise EvaluationError(f"a result's {name} is {getattr(self, name)!r}; choose from {list(known)}")
        if self.seeds < 1:
            raise EvaluationError(f"row {self.row!r}, {self.metric}: seeds is {self.seeds}; at least 1 is needed")


def write_results(path: Path, rows: Sequence[Row], provenance: Mapping[str, Any]) -> None:
    """Write the rows as a flat JSON list, and `provenance.json` beside it, each atomically.

    The provenance (config, version, data) is written first, so that no table stands without it. A mean or sd that is
    not finite becomes null.
    """
    write_json(path.with_name("provenance.json"), dict(provenance))
    write_json(path, [{**asdict(row), "mean": _to_json(row.mean), "sd": _to_json(row.sd)} for row in rows])


def read_results(path: Path) -> list[Row]:
    """Read what `write_results` wrote.

    Raises:
        EvaluationError: no such file, not a JSON list, or an entry whose keys or values are not those of a Row.
    """
    try:
        entries = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise EvaluationError(f"{path} does not exist; `python -m stalign_pl test` writes it") from error
    except json.JSONDecodeError as error:
        raise EvaluationError(f"{path} is not JSON: {error}") from error
    if not isinstance(entries, list):
        raise EvaluationError(f"{path} should hold a list of rows, not a {type(entries).__name__}")
    return [_read_row(entry, number, path) for number, entry in enumerate(entries)]


def average_over_slides(rows: Iterable[Row]) -> list[Row]:
    """One `all` row for each (task, split, row, read-out, metric), in order of first appearance.

    The mean is unweighted over slides. The sd is that of this mean over the seeds, sqrt(sum of sd^2) / slides: each
    slide is clustered with draws of its own, so the slides' deviations are independent. It says nothing about the
    spread between slides. NaN on one slide makes the mean NaN, never a mean over fewer slides.

    Raises:
        EvaluationError: a row misses a slide that another row of the same task, split, read-out and metric has, or
            has one twice; their means would not compare.
    """
    groups: dict[tuple[str, ...], dict[str, Row]] = {}
    for row in rows:
        if row.slide == ALL:
            continue
        slides = groups.setdefault((row.task, row.split, row.readout, row.metric, row.row), {})
        if row.slide in slides:
            raise EvaluationError(f"row {row.row!r}, {row.split} {row.metric} by {row.readout} occurs twice", row.slide)
        slides[row.slide] = row
    expected: dict[tuple[str, ...], set[str]] = {}
    for key, slides in groups.items():
        expected.setdefault(key[:4], set()).update(slides)
    means = []
    for key, slides in groups.items():
        missing = sorted(expected[key[:4]] - slides.keys())
        if missing:
            raise EvaluationError(f"row {key[4]!r} has no {key[1]} {key[3]} on {missing}, other rows have")
        means.append(_average([slides[name] for name in sorted(slides)]))
    return means


def _average(rows: Sequence[Row]) -> Row:
    count = len(rows)
    return Row(
        task=rows[0].task,
        split=rows[0].split,
        slide=ALL,
        row=rows[0].row,
        readout=rows[0].readout,
        metric=rows[0].metric,
        mean=math.fsum(row.mean for row in rows) / count,
        sd=math.sqrt(math.fsum(row.sd**2 for row in rows)) / count,
        seeds=min(row.seeds for row in rows),
    )


def _to_json(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _read_row(entry: object, number: int, path: Path) -> Row:
    known = {item.name for item in fields(Row)}
    if not isinstance(entry, dict) or entry.keys() != known:
        keys = sorted(entry) if isinstance(entry, dict) else type(entry).__name__
        raise EvaluationError(f"{path}: entry {number} has {keys}, expected the keys {sorted(known)}")
    numbers = {name: math.nan if entry[name] is None else entry[name] for name in ("mean", "sd")}
    if not all(isinstance(value, (int, float)) for value in [*numbers.values(), entry["seeds"]]):
        raise EvaluationError(f"{path}: entry {number}: mean, sd and seeds should be numbers: {entry}")
    return Row(**{**entry, **numbers})
