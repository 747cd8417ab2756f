"""The progress bar of long work: on a terminal, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def with_bar(
    items: Iterable[Item], what: str, shown: bool, total: int | None = None, done: int = 0, unit: str = "slide"
) -> Iterator[Item]:
    """The items, with a tqdm bar on stderr that moves with them.

    Args:
        shown: False yields them without one.
        total, done: of the bar, where `items` is not the whole of the work or has no length.
    """
    if not shown:
        yield from items
        return
    from tqdm import tqdm

    yield from tqdm(items, desc=what, unit=unit, total=total, initial=done)


UNITS = ("kB", "MB", "GB", "TB", "PB")


def byte_text(count: float) -> str:
    """999 -> '999 B', 12_345_678 -> '12.3 MB'; decimal units, as disks and download pages count."""
    if count < 1000:
        return f"{count:.0f} B"
    power = 0
    while count >= 999.5 and power < len(UNITS):
        count, power = count / 1000, power + 1
    return f"{count:.{0 if count >= 99.95 else 1}f} {UNITS[power - 1]}"
