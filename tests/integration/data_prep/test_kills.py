"""A build that is killed at any moment and started again makes the same set, and builds no finished slide twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.support.paths import REPOSITORY
from tests.support.tiny_cohort import write_cohort

SLIDES = {f"kill_{number}": f"P{number}" for number in range(6)}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cohort(tmp_path_factory.mktemp("kills") / "in", SLIDES)


def command(cohort: Path, out: Path, *more: str) -> list[str]:
    call = ["build", "--source", "space_ranger", "--input", str(cohort), "--out", str(out), *more]
    return [sys.executable, "-m", "data_prep", *call]


def run(arguments: list[str]) -> None:
    ended = subprocess.run(arguments, cwd=REPOSITORY, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def start(arguments: list[str], out: Path) -> subprocess.Popen:
    """Start the command in a process group of its own; returns once it has begun with slides, or has ended."""
    began = out / "plan.json"
    before = began.stat().st_mtime_ns if began.exists() else 0
    process = subprocess.Popen(
        arguments, cwd=REPOSITORY, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    while process.poll() is None and not (began.exists() and (before or began.stat().st_mtime_ns > before)):
        time.sleep(0.01)
    return process


def kill_after(seconds: float, arguments: list[str], out: Path) -> bool:
    """Kill -9 the command and all its processes some time after it has begun; False where it ended first."""
    process = start(arguments, out)
    try:
        process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return True
    assert process.returncode == 0
    return False


def files_of(out: Path) -> dict[str, bytes]:
    """Every file of the set itself, left-overs of killed writers included; the states hold seconds and are apart."""
    return {path.name: path.read_bytes() for path in sorted(out.iterdir()) if path.is_file()}


def finished(out: Path) -> dict[str, tuple[int, int]]:
    """Slide -> identity of its record, for the slides whose state says that they are done."""
    if not out.exists():
        return {}
    found = {}
    for path in sorted((out / "state").glob("[!.]*.json")):
        if json.loads(path.read_text())["status"] == "done":
            status = (out / path.name).stat()
            found[path.stem] = (status.st_ino, status.st_mtime_ns)
    return found


def survive(cohort: Path, folder: Path, kills: int, seed: int) -> None:
    """Kill builds of new sets again and again, in turn with 1 and 4 workers, until `kills` have hit."""
    process, began = start(command(cohort, folder / "whole", "--workers", "1"), folder / "whole"), time.monotonic()
    process.communicate()
    lasts, wanted = time.monotonic() - began, files_of(folder / "whole")
    run(command(cohort, folder / "four", "--workers", "4"))
    assert files_of(folder / "four") == wanted  # whatever the number of workers
    rng, hits, sets = np.random.default_rng(seed), 0, 0
    while hits < kills and sets < 4 * kills:
        out, sets, killed, before = folder / f"killed-{sets}", sets + 1, True, {}
        while killed:  # until one gets through, with 1 and 4 workers in turn
            workers = ("1", "4")[hits % 2]
            killed = hits < kills and kill_after(
                rng.uniform(0, 0.6) * lasts, command(cohort, out, "--workers", workers), out
            )
            hits += killed
            after = finished(out)
            assert {name: after.get(name) for name in before} == before  # no finished slide was built again
            before = after
        run(command(cohort, out, "--workers", "1"))
        assert {name: finished(out).get(name) for name in before} == before
        assert files_of(out) == wanted
    assert hits == kills


def test_five_kills(cohort: Path, tmp_path: Path) -> None:
    survive(cohort, tmp_path, kills=5, seed=1)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_twenty_kills(cohort: Path, tmp_path: Path) -> None:
    survive(cohort, tmp_path, kills=20, seed=2)


def test_three_tasks_of_an_array_killed_and_given_again_make_the_same_set(cohort: Path, tmp_path: Path) -> None:
    run(command(cohort, tmp_path / "whole", "--workers", "2"))
    tasks = [command(cohort, tmp_path / "set", "--workers", "1", "--task", str(i), "--tasks", "3") for i in range(3)]
    rng = np.random.default_rng(3)
    for task in tasks:
        kill_after(rng.uniform(0.1, 0.5), task, tmp_path / "set")
    running = [subprocess.Popen(task, cwd=REPOSITORY, stdout=subprocess.DEVNULL) for task in tasks]  # all at once
    assert [process.wait(timeout=300) for process in running] == [0, 0, 0]
    run(command(cohort, tmp_path / "set", "--workers", "1"))
    assert files_of(tmp_path / "set") == files_of(tmp_path / "whole")
