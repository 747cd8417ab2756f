"""The demo over cohort seeds never used in development: model, shuffled pairs, floors and oracle.

    OMP_NUM_THREADS=1 python benchmarks/cohorts.py --jobs 2        (seeds 105-109, about 30 minutes on two cores)

Per seed: simulate, build, then fit and test configs/demo.yaml three times: as it is; with the genes of another spot of
the slide for every spot's pictures (`shuffled`: spot and niche still are pairs); and with none of the three levels
holding a pair (`shuffled_all`). Nothing is chosen on these cohorts, the epoch neither: the demo's number of epochs,
the last checkpoint, no validation on the way. Writes results.json (every number) and table.md.

Seeds 100 to 104 were looked at once, with an earlier configuration: results/cohorts-first-look. What that look led to
was worked out on development seeds 0 and 1, so the table that counts is of cohorts that nobody had seen.
"""

from __future__ import annotations

import argparse
import platform
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from demo_runs import Cohort, fit_and_test
from paired_table import Line, Results, floors, paired_table, write

FEWER_FLOORS = ("--spatial_domains.smooth", "0", "--spatial_domains.secondary", "[]")  # the model's run has them
RUNS = {
    "model": (),
    "shuffled": ("--data.augmentation.shuffle_pairs", "image_gene", *FEWER_FLOORS),
    "shuffled_all": ("--data.augmentation.shuffle_pairs", "all", *FEWER_FLOORS),
}
"""Run -> options."""

LINES = [Line("stalign", "model"), Line("shuffled", "shuffled"), Line("shuffled_all", "shuffled_all"), *floors("model")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="105,106,107,108,109")
    parser.add_argument("--runs", default="runs/cohorts", help="folder of the runs; finished ones are not run again")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/cohorts"))
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time; with 2 on two cores set OMP_NUM_THREADS=1")
    args = parser.parse_args()
    cohorts = [Cohort(int(seed)) for seed in args.seeds.split(",")]
    for cohort in cohorts:
        cohort.prepare()
    jobs = [(cohort, name) for cohort in cohorts for name in RUNS]
    with ThreadPoolExecutor(args.jobs) as pool:
        rows = list(
            pool.map(lambda job: fit_and_test(job[0], args.runs, f"cohort-{job[0].seed}-{job[1]}", RUNS[job[1]]), jobs)
        )
    results: Results = {}
    for (cohort, name), found in zip(jobs, rows, strict=True):
        results.setdefault(cohort.seed, {})[name] = found
    lines = [f"Cohort seeds {args.seeds}; mean ± sd over cohorts, in brackets the paired difference in its own sd.", ""]
    for split in ("test", "val"):
        lines += paired_table(results, split, LINES)
    lines.append(f"Python {platform.python_version()}, torch {torch.__version__}, {platform.machine()}, CPU.")
    write(args.out, lines, results)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
