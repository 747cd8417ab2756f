"""Entries of a benchmark's results.json: what a number belongs to, and the numbers themselves by metric."""

from __future__ import annotations

import math
from collections.abc import Mapping

METRICS = ("ari", "mse", "pearson")


def make_entry(place: Mapping[str, str | int], numbers: Mapping[str, float]) -> dict[str, str | int | float | None]:
    """Return an entry as JSON has it; a number that is not defined (NaN) is null, one that is not there has no key.

    Args:
        place: what the numbers belong to: cohort, run, split, row, ...
        numbers: by metric.
    """
    return {**place, **{name: value if math.isfinite(value) else None for name, value in numbers.items()}}


def read_numbers(entry: Mapping[str, float | None]) -> dict[str, float]:
    """Return an entry's numbers by metric; null is NaN."""
    found = {metric: entry[metric] for metric in METRICS if metric in entry}
    return {metric: math.nan if value is None else value for metric, value in found.items()}
