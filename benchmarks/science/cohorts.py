"""The demo over cohort seeds never used in development: model, shuffled pairs, floors and oracle.

    OMP_NUM_THREADS=1 python -m benchmarks.science.cohorts --jobs 2    (seeds 105-109, about 30 minutes on two cores)

Per seed: simulate, build, then fit and test configs/demo.yaml three times: as it is; with the genes of another spot of
the slide for every spot's pictures (`shuffled`: spot and niche still are pairs); and with none of the three levels
holding a pair (`shuffled_all`). Nothing is chosen on these cohorts, the epoch neither: the demo's number of epochs,
the last checkpoint, no validation on the way. Writes table.md and results.json, what it is made from.

Seeds 100 to 104 were looked at once, with an earlier configuration: results/cohorts-first-look. What that look led to
was worked out on development seeds 0 and 1, so the table that counts is of cohorts that nobody had seen.
"""

from __future__ import annotations

from benchmarks.science.demo_runs import FEWER_FLOORS, Cohort, fit_and_test
from benchmarks.science.over_cohorts import compare
from benchmarks.science.paired_table import Line, floors
from stalign_pl.evaluation.results import Row

RUNS = {
    "model": (),
    "shuffled": ("--data.augmentation.shuffle_pairs", "image_gene", *FEWER_FLOORS),
    "shuffled_all": ("--data.augmentation.shuffle_pairs", "all", *FEWER_FLOORS),
}
"""Run -> options."""

LINES = [Line("stalign", "model"), Line("shuffled", "shuffled"), Line("shuffled_all", "shuffled_all"), *floors("model")]


def run(cohort: Cohort, runs: str, name: str) -> list[Row]:
    """Fit and test one of RUNS on one cohort, unless that was done."""
    return fit_and_test(cohort, runs, f"cohort-{cohort.seed}-{name}", RUNS[name])


if __name__ == "__main__":
    compare(__doc__, "cohorts", "105,106,107,108,109", list(RUNS), run, LINES)
