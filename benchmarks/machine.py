"""What a table was measured with: cores and versions; a process's memory; where results go."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from stalign_pl.files import replace_file, write_json


def describe_machine(*packages: str) -> str:
    """One line: processor, cores, Python and the versions of the named packages."""
    names = [line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")]
    processor = names[0] if names else platform.machine()
    versions = ", ".join(f"{package} {version(package)}" for package in packages)
    return f"{processor}, {os.cpu_count()} cores; Python {platform.python_version()}, {versions}."


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def read_memory(name: str) -> int:
    """Bytes of this process's memory by Linux's name for it: VmHWM (the most there was), VmRSS, RssAnon, RssFile.

    Not getrusage's ru_maxrss, which a process inherits from the one that started it.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def growth_between_halves(most: Sequence[int]) -> int:
    """Return by how much the most in the second half is above the most in the first, which has the odd one.

    Args:
        most: bytes, part by part in the order of time, at least one.
    """
    half = -(-len(most) // 2)
    return max(most[half:], default=0) - max(most[:half])


def write_results(out: Path, lines: list[str], found: object) -> None:
    """Write `table.md` and `results.json` into a folder.

    Args:
        out: the folder, made where it is not there.
        lines: of `table.md`.
        found: of `results.json`, as JSON has it; a list is written an entry a line.
    """
    out.mkdir(parents=True, exist_ok=True)
    with replace_file(out / "table.md") as temporary:
        temporary.write_text("\n".join(lines) + "\n")
    if not isinstance(found, list):
        write_json(out / "results.json", found)
        return
    entries = ",\n".join(json.dumps(entry, allow_nan=False) for entry in found)
    with replace_file(out / "results.json") as temporary:
        temporary.write_text(f"[\n{entries}\n]\n")
