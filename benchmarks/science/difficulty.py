"""Where the model gains and where it loses: six kinds of cohort, the demo's model and the floors beside it.

    OMP_NUM_THREADS=1 python -m benchmarks.science.difficulty --jobs 2    (about 15 minutes on two cores)

Share of the domains that only their neighbourhood tells apart: 0, .5, 1; image informative or not. Cohorts of six
patients (four train, two are tested), development seed 1, one training a cell: it shows directions, not margins.
Every cell is printed, losing ones too.
"""

from __future__ import annotations

import argparse
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.science.demo_runs import Cohort, fit_and_test, number
from stalign_pl.evaluation.results import Row
from stalign_pl.files import replace_file

CELLS = [(share, informative) for informative in ("1", "0") for share in ("0", "0.5", "1")]
SPLIT = ("--data.val_patients", "[]", "--data.test_patients", "[P05,P06]")
ARI_ROWS = ("stalign", "untrained", "pca", "pca_smooth1", "pca_smooth2", "pixels", "coordinates", "oracle")
MSE_ROWS = ("stalign", "untrained", "image", "constant", "oracle")


def table(found: list[list[Row]], metric: str, names: tuple[str, ...]) -> list[str]:
    """One line a cell."""
    lines = [
        f"### {metric.upper()}, test patients",
        "",
        "| neighbourhood-only domains | image | " + " | ".join(names) + " |",
        "|---" * (len(names) + 2) + "|",
    ]
    for (share, informative), rows in zip(CELLS, found, strict=True):
        values = [number(rows, "test", name, metric) for name in names]
        cells = ["-" if value is None else f"{value:.3f}" for value in values]
        lines.append(f"| {share} | {'informative' if informative == '1' else 'random'} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", default="runs/difficulty", help="folder of the runs; finished ones are not run again")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/difficulty"))
    parser.add_argument(
        "--jobs", type=int, default=1, help="cells at a time; with 2 on two cores set OMP_NUM_THREADS=1"
    )
    args = parser.parse_args()

    def run(cell: tuple[str, str]) -> list[Row]:
        changes = ("patients=6", f"neighbourhood_only={cell[0]}", f"image_informative={cell[1]}")
        cohort = Cohort(1, changes)
        cohort.prepare()
        return fit_and_test(cohort, args.runs, cohort.name, SPLIT)

    with ThreadPoolExecutor(args.jobs) as pool:
        found = list(pool.map(run, CELLS))
    lines = ["Development cohort seed 1, one training a cell.", ""]
    lines += table(found, "ari", ARI_ROWS) + table(found, "mse", MSE_ROWS)
    args.out.mkdir(parents=True, exist_ok=True)
    with replace_file(args.out / "table.md") as temporary:
        temporary.write_text("\n".join(lines))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
