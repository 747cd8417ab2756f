"""The recipes beside each other over cohort seeds that nobody had seen, with every floor.

    OMP_NUM_THREADS=1 python benchmarks/recipes.py --jobs 2          (seeds 110-114, run once)

Per seed: simulate, build, cluster the training slides for the authors' loss, then fit and test configs/demo.yaml with
each recipe of configs/recipes over it. Encoders, epochs and batch are the demo's in all of them. Nothing is chosen on
these cohorts: the demo's number of epochs, the last checkpoint, no validation on the way. What recipes/stalign.yaml
sets was chosen on development seeds (results/ablation). Writes results.json (every number) and table.md.
"""

from __future__ import annotations

from pathlib import Path

from demo_runs import Cohort, call, fit_and_test, plain_name
from over_cohorts import compare
from paired_table import Line, floors

from stalign_pl.evaluation.results import Row

FEWER_FLOORS = ("--spatial_domains.smooth", "0", "--spatial_domains.secondary", "[]")  # stalign's run has them
AS_DEMO = (
    "--model.optimizer.lr",
    "0.002",
    "--model.optimizer.warmup",
    "0.1",
    "--model.optimizer.reference_batch",
    "null",
)
RECIPES: dict[str, tuple[str, ...]] = {
    "stalign": ("--config", "configs/recipes/stalign.yaml"),
    "paper": ("--config", "configs/recipes/paper.yaml"),
    "paper, the demo's rate": ("--config", "configs/recipes/paper.yaml", *AS_DEMO),
    "authors_code": ("--config", "configs/recipes/authors_code.yaml"),
    "authors_code, the demo's rate": ("--config", "configs/recipes/authors_code.yaml", *AS_DEMO),
    "spot_only": ("--config", "configs/recipes/baselines/spot_only.yaml"),
}
"""Run -> what it changes in configs/demo.yaml. Both published rates are for longer runs than the demo's 400 steps: the
same recipe at the demo's rate stands beside each."""

LINES = [
    *(Line(name, name, ari="stalign_spot_pair" if name == "spot_only" else "stalign") for name in RECIPES),
    *floors("stalign"),
]


def run(cohort: Cohort, runs: str, recipe: str) -> list[Row]:
    """Fit and test one recipe on one cohort, unless that was done."""
    options = list(RECIPES[recipe])
    if recipe != "stalign":
        options += FEWER_FLOORS
    if recipe.startswith("authors_code"):
        clusters = Path(runs) / f"{plain_name('clusters', str(cohort.seed), recipe)}.json"
        if not clusters.exists():
            clusters.parent.mkdir(parents=True, exist_ok=True)
            call("stalign_pl", "clusters", f"shards/{cohort.name}", "--out", str(clusters))
        options += ["--data.clusters", str(clusters)]
    return fit_and_test(cohort, runs, plain_name("recipe", str(cohort.seed), recipe), options)


if __name__ == "__main__":
    compare(__doc__, "recipes", "110,111,112,113,114", list(RECIPES), run, LINES)
