"""The progress bar of long work: on a terminal, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def show_bar(
    items: Iterable[Item], what: str, shown: bool, total: int | None = None, done: int = 0, unit: str = "slide"
) -> Iterator[Item]:
    """Yield the items while a tqdm bar on stderr moves with them.

    Args:
        items: what to yield.
        what: the bar's label.
        shown: False yields the items without a bar.
        total: of the bar, where `items` is not the whole work or has no length.
        done: items that were done before.
        unit: what one item is.
    """
    if not shown:
        yield from items
        return
    from tqdm import tqdm

    yield from tqdm(items, desc=what, unit=unit, total=total, initial=done)


UNITS = ("kB", "MB", "GB", "TB", "PB")


def format_bytes(count: float) -> str:
    """Write a number of bytes in decimal units: 999 -> '999 B', 12_345_678 -> '12.3 MB'."""
    if count < 1000:
        return f"{count:.0f} B"
    power = 0
    while count >= 999.5 and power < len(UNITS):
        count, power = count / 1000, power + 1
    return f"{count:.{0 if count >= 99.95 else 1}f} {UNITS[power - 1]}"
