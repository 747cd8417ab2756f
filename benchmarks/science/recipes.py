"""The recipes beside each other over cohort seeds that nobody had seen, with every floor.

    OMP_NUM_THREADS=1 python -m benchmarks.science.recipes --jobs 2    (seeds 110-114, run once)

Per seed: simulate, build, cluster the training slides for the authors' loss, then fit and test configs/demo.yaml with
each recipe of configs/recipes over it, the published ones also at the demo's rate and at ours. Encoders, epochs and
batch are the demo's in all of them. Nothing is chosen on these cohorts: the demo's number of epochs, the last
checkpoint, no validation on the way. What recipes/stalign.yaml sets was chosen on development seeds. Writes
table.md and results.json, what it is made from.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.science.demo_runs import FEWER_FLOORS, Cohort, call, fit_and_test, options, plain_name
from benchmarks.science.over_cohorts import compare
from benchmarks.science.paired_table import Line, floors
from stalign_pl.evaluation.results import Row


def at_rate(rate: float) -> list[str]:
    """As the demo warms up to it; both published rates are for longer runs than its 400 steps."""
    return options({"lr": str(rate), "warmup": "0.1", "reference_batch": "null"}, "model.optimizer.")


PAPER = ("--config", "configs/recipes/paper.yaml")
AUTHORS_CODE = ("--config", "configs/recipes/authors_code.yaml")
RECIPES: dict[str, tuple[str, ...]] = {
    "stalign": ("--config", "configs/recipes/stalign.yaml"),
    "paper": PAPER,
    "paper, the demo's rate": (*PAPER, *at_rate(0.002)),
    "paper, our rate": (*PAPER, *at_rate(0.01)),
    "authors_code": AUTHORS_CODE,
    "authors_code, the demo's rate": (*AUTHORS_CODE, *at_rate(0.002)),
    "authors_code, our rate": (*AUTHORS_CODE, *at_rate(0.01)),
    "spot_only": ("--config", "configs/recipes/baselines/spot_only.yaml"),
}
"""Run -> what it changes in configs/demo.yaml."""

LINES = [
    *(Line(name, name, ari="stalign_spot_pair" if name == "spot_only" else "stalign") for name in RECIPES),
    *floors("stalign"),
]


def run(cohort: Cohort, runs: str, recipe: str) -> list[Row]:
    """Fit and test one recipe on one cohort, unless that was done."""
    changes = list(RECIPES[recipe])
    if recipe != "stalign":
        changes += FEWER_FLOORS
    if recipe.startswith("authors_code"):
        clusters = Path(runs) / f"clusters-{cohort.seed}.json"
        if not clusters.exists():
            call("stalign_pl", "clusters", f"shards/{cohort.name}", "--out", str(clusters))
        changes += ["--data.clusters", str(clusters)]
    return fit_and_test(cohort, runs, plain_name("recipe", str(cohort.seed), recipe), changes)


if __name__ == "__main__":
    compare(__doc__, "recipes", "110,111,112,113,114", list(RECIPES), run, LINES)
