"""The recipe and some of its changes on real brain: trained on one DLPFC donor, evaluated on another.

    python -m data_prep build --config configs/data/real.yaml --out shards/real
    OMP_NUM_THREADS=1 python -m benchmarks.science.donor_ablation --jobs 2    (about a minute a run and core)

configs/donor_out.yaml, trained on 151507 and 151509 of donor 1 alone, evaluated once, at the end, on 151673 of donor 3,
by the 100 genes that all three measured. Five training seeds, so that mean and sd are the training's: one slide says
nothing of donors. Nothing of the recipe was chosen here. Floors that would read more than the 100 genes (PCA of the
slide's own 580) are left out. Writes table.md and results.json, what it is made from.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.machine import write_results
from benchmarks.science.ablation import VARIANTS, evaluated_once, rows_of_finished
from benchmarks.science.demo_runs import call, options, plain_name
from benchmarks.science.paired_table import spread
from benchmarks.science.slide_scores import Results, Scores, make_entries, mean_scores
from stalign_pl.evaluation.results import Row, read_results

CONFIG = "configs/donor_out.yaml"
EPOCHS = 3  # 213 steps; the simulated cohorts' ablation has 204
SLIDE = "151673"
NAMES = ("ours", "demo", "fusion: ABFN, 16 wide", "niche: 6 nearest, alike (demo)")
FLOORS = (
    *("untrained", "image", "pixels", "train_pca", "train_pca_smooth1", "train_pca_smooth2", "train_niche_pca"),
    *("train_niche_pca_smooth1", "coordinates", "constant"),
)


def run(folder: Path, variant: str, seed: int) -> list[Row]:
    """Fit and evaluate, unless that was done."""
    name = plain_name(str(seed), variant, VARIANTS[variant].digest(CONFIG))
    if rows_of_finished(folder / name, (SLIDE,)) is None:
        common = _common(folder, name, seed, floors=variant == "ours")
        call("stalign_pl", "fit", *VARIANTS[variant].arguments(CONFIG, *common))
        print(f"{name} done", flush=True)
    return read_results(folder / name / "results.json")


def _common(folder: Path, name: str, seed: int, floors: bool) -> list[str]:
    """From one donor to the other."""
    given = {
        "seed_everything": str(seed),
        "data.split": "null",
        "data.fold": "null",
        "data.train_patients": "[dlpfc_donor1]",
        "data.val_patients": "[dlpfc_donor3]",
        "data.composition.slides": "2",
        "data.composition.spots": "64",
        "data.genes.method": "all",
        "data.genes.detected": "0",
        "spatial_domains.smooth": "0",
    }
    return options(given | evaluated_once(folder, name, EPOCHS, floors))


def table(results: Results) -> list[str]:
    """A line a variant and a floor: mean and sd over training seeds, and the difference from ours, seed by seed."""
    lines = ["| | ARI | - ours | MSE | - ours |", "|---|---|---|---|---|"]
    lines += [_line(name, by_seed, results["ours"]) for name, by_seed in results.items()]
    return [*lines, *(_line(f"*{name}*", results["ours"], results["ours"], name) for name in FLOORS)]


def _line(title: str, by_seed: Mapping[int, Scores], ours: Mapping[int, Scores], name: str = "stalign") -> str:
    cells = [title]
    for metric in (0, 1):
        values = [mean_scores(rows, (SLIDE,), name)[metric] for rows in by_seed.values()]
        if None in values:
            cells += ["", ""]
            continue
        gains = [value - mean_scores(ours[seed], (SLIDE,))[metric] for seed, value in zip(by_seed, values, strict=True)]
        cells += [spread(values), "" if title == "ours" else spread(gains, "+")]
    return "| " + " | ".join(cells) + " |"


def make_page(results: Results, seeds: str) -> list[str]:
    """Return table.md: the setting, and the table."""
    return [
        f"Trained on donor 1 (151507, 151509), evaluated on donor 3 ({SLIDE}), 100 genes, {EPOCHS} epochs. Training",
        f"seeds {seeds}: mean ± sd over them, and the difference from ours, seed by seed; below, the floors.",
        "",
        *table(results),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="0,1,2,3,4", help="of training")
    parser.add_argument(
        "--runs", type=Path, default=Path("runs/donor_ablation"), help="finished ones are not run twice"
    )
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/donor_ablation"))
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time; with 2 on two cores set OMP_NUM_THREADS=1")
    args = parser.parse_args()
    if not Path("shards/real/manifest.json").exists():
        sys.exit(
            "shards/real is not there: python -m data_prep build --config configs/data/real.yaml --out shards/real "
            "(it wants the real sections of README's chapter)"
        )
    jobs = [(name, int(seed)) for seed in args.seeds.split(",") for name in NAMES]
    with ThreadPoolExecutor(args.jobs) as pool:
        found = list(pool.map(lambda job: run(args.runs, *job), jobs))
    results: dict[str, dict[int, list[Row]]] = {name: {} for name in NAMES}
    for (name, seed), rows in zip(jobs, found, strict=True):
        results[name][seed] = rows
    lines = make_page(results, args.seeds)
    write_results(args.out, lines, make_entries(results, "seed", FLOORS))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
