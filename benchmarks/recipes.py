"""The recipes beside each other over cohort seeds that nobody had seen, with every floor.

    OMP_NUM_THREADS=1 python benchmarks/recipes.py --jobs 2          (seeds 110-114, run once)

Per seed: simulate, build, cluster the training slides for the authors' loss, then fit and test configs/demo.yaml with
each recipe of configs/recipes over it. Encoders, epochs and batch are the demo's in all of them. Nothing is chosen on
these cohorts: the demo's number of epochs, the last checkpoint, no validation on the way. What recipes/stalign.yaml
sets was chosen on development seeds (results/ablation). Writes results.json (every number) and table.md.
"""

from __future__ import annotations

import argparse
import platform
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from demo_runs import Cohort, call, fit_and_test
from paired_table import Line, Results, floors, paired_table, write

from stalign_pl.evaluation.results import Row

FEWER_FLOORS = ("--spatial_domains.smooth", "0", "--spatial_domains.secondary", "[]")  # stalign's run has them
RECIPES = {
    "stalign": "configs/recipes/stalign.yaml",
    "paper": "configs/recipes/paper.yaml",
    "authors_code": "configs/recipes/authors_code.yaml",
    "spot_only": "configs/recipes/baselines/spot_only.yaml",
}
LINES = [
    Line("stalign", "stalign"),
    Line("paper", "paper"),
    Line("authors_code", "authors_code"),
    Line("spot_only", "spot_only", ari="stalign_spot_pair"),
    *floors("stalign"),
]


def run(cohort: Cohort, runs: str, recipe: str) -> list[Row]:
    """Fit and test one recipe on one cohort, unless that was done."""
    options = ["--config", RECIPES[recipe]]
    if recipe != "stalign":
        options += FEWER_FLOORS
    if recipe == "authors_code":
        clusters = Path(runs) / f"clusters-{cohort.seed}.json"
        if not clusters.exists():
            clusters.parent.mkdir(parents=True, exist_ok=True)
            call("stalign_pl", "clusters", f"shards/{cohort.name}", "--out", str(clusters))
        options += ["--data.clusters", str(clusters)]
    return fit_and_test(cohort, runs, f"recipe-{cohort.seed}-{recipe}", options)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="110,111,112,113,114")
    parser.add_argument("--runs", default="runs/recipes", help="folder of the runs; finished ones are not run again")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/recipes"))
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time; with 2 on two cores set OMP_NUM_THREADS=1")
    args = parser.parse_args()
    cohorts = [Cohort(int(seed)) for seed in args.seeds.split(",")]
    for cohort in cohorts:
        cohort.prepare()
    jobs = [(cohort, recipe) for cohort in cohorts for recipe in RECIPES]
    with ThreadPoolExecutor(args.jobs) as pool:
        rows = list(pool.map(lambda job: run(job[0], args.runs, job[1]), jobs))
    results: Results = {}
    for (cohort, recipe), found in zip(jobs, rows, strict=True):
        results.setdefault(cohort.seed, {})[recipe] = found
    lines = [f"Cohort seeds {args.seeds}; mean ± sd over cohorts, in brackets the paired difference in its own sd.", ""]
    for split in ("test", "val"):
        lines += paired_table(results, split, LINES)
    lines.append(f"Python {platform.python_version()}, torch {torch.__version__}, {platform.machine()}, CPU.")
    write(args.out, lines, results)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
