"""Start the program as a user does: in a process of its own, or in this one, which saves the imports."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

import stalign_pl.cli.lightning  # noqa: F401  (here, not in a test: Lightning's log handler keeps the stderr of its import)
from stalign_pl.cli.main import main
from stalign_pl.runs.signals import handlers, restore_handlers
from tests.support.paths import REPOSITORY, TINY

QUICK = ("--spatial_domains.smooth", "1", "--spatial_domains.secondary", "[]", "--spatial_domains.seeds", "1")
TIMINGS = ("spots/s", "data_wait_%")
"""Columns of metrics.csv that differ from run to run."""


def arguments(command: str, shards: Path, folder: Path, *more: str) -> list[str]:
    given = [command, "--config", str(TINY), "--data.shards", str(shards), "--run.folder", str(folder), *more]
    return [str(argument) for argument in given]


@contextmanager
def signal_handlers_kept() -> Iterator[None]:
    """A program leaves its handlers behind when it ends; this process goes on."""
    before = handlers()
    yield
    restore_handlers(before)


def run_here(*given: str) -> int:
    """Run the command line in this process; its exit status."""
    with pytest.MonkeyPatch.context() as patch, signal_handlers_kept():
        patch.setattr(sys, "argv", ["stalign_pl", *given])
        return main()


def start(*given: str) -> subprocess.Popen[str]:
    """Start `python -m stalign_pl` in a process group of its own, with as many threads as this process has.

    Sums over another number of threads round otherwise: a run that went on here would not end bit for bit alike.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    return subprocess.Popen(
        [sys.executable, "-m", "stalign_pl", *given],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        cwd=REPOSITORY,
        start_new_session=True,
    )


def run_apart(*given: str) -> str:
    """Run `python -m stalign_pl`, expect exit status 0; what it printed."""
    process = start(*given)
    printed, _ = process.communicate(timeout=400)
    assert process.returncode == 0, printed[-4000:]
    return printed


def logged(run: Path) -> list[dict[str, str]]:
    """The rows of metrics.csv, without empty cells and timings."""
    with (run / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [{name: value for name, value in row.items() if value and name not in TIMINGS} for row in rows]


def written(run: Path) -> set[str]:
    """Every file of a run's folder, as paths relative to it."""
    return {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
