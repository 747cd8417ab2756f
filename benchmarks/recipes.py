"""The recipes beside each other over cohort seeds that nobody had seen, with every floor.

    OMP_NUM_THREADS=1 python benchmarks/recipes.py --jobs 2          (seeds 110-114, run once)

Per seed: simulate, build, cluster the training slides for the authors' loss, then fit and test configs/demo.yaml with
each recipe of configs/recipes over it. Encoders, epochs and batch are the demo's in all of them. Nothing is chosen on
these cohorts: the demo's number of epochs, the last checkpoint, no validation on the way. What recipes/stalign.yaml
sets was chosen on development seeds (results/ablation). Writes results.json (every number) and table.md.
"""

from __future__ import annotations

from pathlib import Path

from demo_runs import Cohort, call, fit_and_test
from over_cohorts import compare
from paired_table import Line, floors

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


if __name__ == "__main__":
    compare(__doc__, "recipes", "110,111,112,113,114", list(RECIPES), run, LINES)
