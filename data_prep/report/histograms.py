"""Histograms of values that span decades, as numbers that the template draws as inline SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

WIDTH, HEIGHT = 320.0, 110.0
BINS = 24


@dataclass(frozen=True)
class Bar:
    """A bar in SVG units (y down), with its words."""

    x: float
    y: float
    width: float
    height: float
    text: str


@dataclass(frozen=True)
class Tick:
    """A place on the horizontal axis."""

    x: float
    text: str


@dataclass(frozen=True)
class Histogram:
    """A histogram on a logarithmic axis.

    Attributes:
        caption: number of values, median and range, and how many are zero and so not drawn.
    """

    title: str
    caption: str
    bars: tuple[Bar, ...]
    ticks: tuple[Tick, ...]
    width: float = WIDTH
    height: float = HEIGHT


def make_histogram(title: str, values: Sequence[float] | np.ndarray, what: str) -> Histogram:
    """Make a histogram of values >= 0 on a logarithmic axis; the caption counts the zeros.

    Args:
        what: what a value belongs to, in the plural: 'slides'.
    """
    values = np.asarray(values, np.float64)
    drawn = values[values > 0]
    caption = f"{len(values):,} {what}"
    if len(values):
        low, middle, high = (_format_value(value) for value in (values.min(), np.median(values), values.max()))
        caption += f", median {middle}, {low} to {high}"
    if len(drawn) < len(values):
        caption += f" ({len(values) - len(drawn):,} are zero and not drawn)"
    if not len(drawn):
        return Histogram(title, caption, (), ())
    low, high = np.log10(drawn.min()), np.log10(drawn.max())
    low, high = (low - 0.1, high + 0.1) if high - low < 0.2 else (low, high)
    counts, edges = np.histogram(np.log10(drawn), bins=BINS, range=(low, high))
    step = WIDTH / BINS
    bars = tuple(
        Bar(
            round(number * step, 2),
            round(HEIGHT * (1 - count / counts.max()), 2),
            round(step * 0.9, 2),
            round(HEIGHT * count / counts.max(), 2),
            f"{_format_value(10 ** edges[number])} to {_format_value(10 ** edges[number + 1])}: {count:,} {what}",
        )
        for number, count in enumerate(counts)
        if count
    )
    return Histogram(title, caption, bars, _place_ticks(low, high))


def _place_ticks(low: float, high: float) -> tuple[Tick, ...]:
    """Place at most six of 1, 2, 5, 10, ... within the axis (its ends where none is)."""
    values = [step * 10.0**power for power in range(int(np.floor(low)), int(np.ceil(high)) + 1) for step in (1, 2, 5)]
    inside = [value for value in values if low <= np.log10(value) <= high]
    inside = [value for value in inside if f"{value:e}"[0] == "1"] if len(inside) > 6 else inside
    inside = inside if len(inside) > 1 else [10**low, 10**high]
    return tuple(
        Tick(round(float((np.log10(value) - low) / (high - low)) * WIDTH, 2), _format_value(value)) for value in inside
    )


def _format_value(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
