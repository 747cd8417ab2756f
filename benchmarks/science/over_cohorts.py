"""Runs beside each other over cohorts, as a command: prepare, run what has not been, write the paired table."""

from __future__ import annotations

import argparse
import platform
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from benchmarks.science.demo_runs import Cohort
from benchmarks.science.paired_table import SPLITS, Entry, Line, Results, paired_table, pick_entries, write
from stalign_pl.evaluation.results import Row


def compare(
    description: str,
    name: str,
    seeds: str,
    runs: Sequence[str],
    run: Callable[[Cohort, str, str], list[Row]],
    lines: Sequence[Line],
) -> None:
    """The `main` of such a benchmark.

    Args:
        description: of `--help`.
        name: folder of the runs in `runs/`, and of the results in `benchmarks/results/`.
        seeds: of the cohorts, by comma, unless others are asked for.
        runs: their names.
        run: (cohort, folder of the runs, run) -> the means over slides of its results.
        lines: of the table; the others are compared with the first.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default=seeds)
    parser.add_argument("--runs", default=f"runs/{name}", help="folder of the runs; finished ones are not run again")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results") / name)
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time; with 2 on two cores set OMP_NUM_THREADS=1")
    args = parser.parse_args()
    cohorts = [Cohort(int(seed)) for seed in args.seeds.split(",")]
    for cohort in cohorts:
        cohort.prepare()
    jobs = [(cohort, each) for cohort in cohorts for each in runs]
    with ThreadPoolExecutor(args.jobs) as pool:
        rows = list(pool.map(lambda job: run(job[0], args.runs, job[1]), jobs))
    results: Results = {}
    for (cohort, each), found in zip(jobs, rows, strict=True):
        results.setdefault(cohort.seed, {})[each] = found
    entries = pick_entries(results, lines)
    text = make_page(entries, args.seeds)
    text.append(f"Python {platform.python_version()}, torch {torch.__version__}, {platform.machine()}, CPU.")
    write(args.out, text, entries)
    print("\n".join(text))


def make_page(entries: Sequence[Entry], seeds: str) -> list[str]:
    """Return table.md but for its last line, which names the machine."""
    text = [f"Cohort seeds {seeds}; mean ± sd over cohorts, in brackets the paired difference in its own sd.", ""]
    for split in SPLITS:
        text += paired_table(entries, split)
    return text
