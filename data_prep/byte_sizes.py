"""Numbers of bytes as people read them."""

from __future__ import annotations

UNITS = ("kB", "MB", "GB", "TB", "PB")


def byte_text(count: float) -> str:
    """999 -> '999 B', 12_345_678 -> '12.3 MB'; decimal units, as disks and download pages count."""
    if count < 1000:
        return f"{count:.0f} B"
    power = 0
    while count >= 999.5 and power < len(UNITS):
        count, power = count / 1000, power + 1
    return f"{count:.{0 if count >= 99.95 else 1}f} {UNITS[power - 1]}"
