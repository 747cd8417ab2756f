"""What each choice of the demo's recipe is worth, one at a time, and what is chosen of them together.

    OMP_NUM_THREADS=1 python benchmarks/ablation.py --seeds 0,1,2 --jobs 2       (about a minute a run and core)

Development cohorts alone. A variant is configs/demo.yaml with other options; it is fitted for six epochs, half of the
demo's, and evaluated once, at the end, on four held-out patients: what is chosen is chosen on P07 and P08, and P09 and
P10, printed beside them, choose nothing. Writes results.json (every number) and table.md, losing variants too.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from demo_runs import Cohort, call, plain_name
from machine import write_results

from stalign_pl.evaluation.results import ALL, Row, read_results

EPOCHS = 6  # half of the demo's, so that a run is a minute
CHOOSING, OTHERS = ("P07", "P08"), ("P09", "P10")
FUSION, NICHE = "--model.model.init_args.fusion", "--data.niche"
OBJECTIVE, REGRESSION = "--model.objective.init_args", "--model.regression"
FLOORS = ("untrained", "pca_smooth1", "train_pca", "train_pca_smooth1", "train_pca_smooth2", "coordinates", "constant")
"""Rows printed under the variants, from the first variant's pass before training."""


def weights(spot: float, niche: float) -> tuple[str, ...]:
    return (f"{OBJECTIVE}.spot_weight", str(spot), f"{OBJECTIVE}.niche_weight", str(niche))


def decoder(weight: float, out: int, scale: str = "none") -> tuple[str, ...]:
    """From a fused niche embedding of `out` dimensions back to the niche's genes."""
    given = (f"{REGRESSION}.niche_to_gene", str(weight), f"{REGRESSION}.scale", scale)
    return (*given, f"{FUSION}.init_args.out", str(out))


TWO_RINGS = (f"{NICHE}.k", "null", f"{NICHE}.rings", "2", f"{NICHE}.weights", "ring")
GENES_ALONE = (FUSION, "stalign_pl.models.GeneOnly", f"{FUSION}.init_args.out", "128")
GATED = (FUSION, "stalign_pl.models.Gated", f"{FUSION}.init_args.out", "128")
MEDIAN = ("--data.genes.target_sum", "null")
IMAGE_TO_NICHE = (f"{REGRESSION}.image_to_gene", "10", f"{REGRESSION}.image_target", "niche")
FROM_DEMO: dict[str, tuple[str, ...]] = {
    "niche: 3 nearest (paper)": (f"{NICHE}.k", "3"),
    "niche: two rings": (f"{NICHE}.k", "null", f"{NICHE}.rings", "2"),
    "niche: two rings, weighted": TWO_RINGS,
    "niche: without its spot": (f"{NICHE}.leave_target_out", "true"),
    "negatives: other slides at .5": (f"{OBJECTIVE}.other_slides", "0.5"),
    "negatives: other slides at 1 (paper)": (f"{OBJECTIVE}.other_slides", "1.0"),
    "negatives: neighbours not masked": (f"{NICHE}.exclude_rings", "0"),
    "losses: .3 spot, .3 niche, .4 cross": weights(0.3, 0.3),
    "losses: .1 spot, .1 niche, .8 cross": weights(0.1, 0.1),
    "losses: .2 spot, .7 niche, .1 cross": weights(0.2, 0.7),
    "genes: 30 % hidden": ("--data.augmentation.mask_genes", "0.3"),
    "genes: scaled to the median": MEDIAN,
    "stain: as it is": ("--data.stain", "none"),
    "fusion: gated": GATED,
    "fusion: genes alone": GENES_ALONE,
    "image to spot's genes: 10": (f"{REGRESSION}.image_to_gene", "10"),
    "image to niche's genes: 10": IMAGE_TO_NICHE,
    "niche to genes: 100, 64 wide": decoder(100, 64),
    "temperature: fixed": (f"{OBJECTIVE}.learn_temperature", "false"),
    "rate: .01": ("--model.optimizer.lr", "0.01"),
}
"""Name -> one change of configs/demo.yaml."""

OURS = (
    *(f"{NICHE}.k", "null", f"{NICHE}.rings", "2", f"{NICHE}.weights", "0.33", f"{NICHE}.even_depth", "true"),
    *(*GENES_ALONE, *MEDIAN, *decoder(1000, 16)),
    *(f"{REGRESSION}.image_to_gene", "100", "--model.optimizer.lr", "0.01"),
)
FROM_OURS: dict[str, tuple[str, ...]] = {
    "image to genes: none (demo)": (f"{REGRESSION}.image_to_gene", "0"),
    "image to spot's genes: 1000": (f"{REGRESSION}.image_to_gene", "1000"),
    "image to niche's genes: 100": (f"{REGRESSION}.image_target", "niche"),
    "rate: .005": ("--model.optimizer.lr", "0.005"),
    "rate: .002 (demo)": ("--model.optimizer.lr", "0.002"),
    "niche to genes: none (demo)": (f"{REGRESSION}.niche_to_gene", "0"),
    "niche to genes: 100": (f"{REGRESSION}.niche_to_gene", "100"),
    "niche to genes: 64 wide": (f"{FUSION}.init_args.out", "64"),
    "niche: without its spot": (f"{NICHE}.leave_target_out", "true"),
    "niche: rings weighted 1 / (1 + ring)": (f"{NICHE}.weights", "ring"),
    "niche: depth not evened": (f"{NICHE}.even_depth", "false"),
    "niche: three rings": (f"{NICHE}.rings", "3", f"{NICHE}.exclude_rings", "4"),
    "niche: 6 nearest, alike (demo)": (
        *(f"{NICHE}.k", "6", f"{NICHE}.rings", "1", f"{NICHE}.weights", "uniform", f"{NICHE}.even_depth", "false"),
    ),
    "negatives: other slides at .5": (f"{OBJECTIVE}.other_slides", "0.5"),
    "negatives: neighbours not masked": (f"{NICHE}.exclude_rings", "0"),
    "losses: .1 spot, .1 niche, .8 cross": weights(0.1, 0.1),
    "losses: .8 spot, .1 niche, .1 cross": weights(0.8, 0.1),
    "genes: 30 % hidden": ("--data.augmentation.mask_genes", "0.3"),
    "genes: scaled to 10,000 (demo)": ("--data.genes.target_sum", "10000"),
    "stain: as it is": ("--data.stain", "none"),
    "fusion: gated": (*GATED, f"{FUSION}.init_args.out", "16"),
    "fusion: ABFN (demo)": (
        *(FUSION, "stalign_pl.models.ABFN", f"{FUSION}.init_args.heads", "4", f"{FUSION}.init_args.head_dim", "32"),
        *(f"{FUSION}.init_args.bottleneck", "32", f"{FUSION}.init_args.hidden", "256", f"{FUSION}.init_args.out", "16"),
    ),
    "temperature: fixed": (f"{OBJECTIVE}.learn_temperature", "false"),
    "twice the epochs": ("--trainer.max_epochs", "12", "--trainer.check_val_every_n_epoch", "12"),
}
"""Name -> one change of OURS."""

VARIANTS: dict[str, tuple[str, ...]] = {
    "demo": (),
    **FROM_DEMO,
    "ours": OURS,
    **{f"ours, {name}": (*OURS, *options) for name, options in FROM_OURS.items()},
}
"""Name -> what it changes in configs/demo.yaml."""


def run_name(cohort: Cohort, variant: str) -> str:
    return plain_name(cohort.name, variant)


def finished(folder: Path, cohort: Cohort, variant: str) -> list[Row] | None:
    """A row a slide of a run that has come to its end."""
    results = folder / run_name(cohort, variant) / "results.json"
    if not results.exists() or not scores(rows := read_results(results), CHOOSING)[0]:
        return None
    return rows


def run(folder: Path, cohort: Cohort, variant: str) -> None:
    """Fit and evaluate, unless that was done."""
    if finished(folder, cohort, variant) is None:
        name = run_name(cohort, variant)
        call("stalign_pl", "fit", "--config", "configs/demo.yaml", *_common(folder, cohort, name), *VARIANTS[variant])
        print(f"{name} done", flush=True)


def _common(folder: Path, cohort: Cohort, name: str) -> list[str]:
    """One evaluation, at the end; floors, by the pass before training, only for the first variant."""
    first = name.endswith("-demo")
    given = {
        "data.shards": f"shards/{cohort.name}",
        "data.val_patients": f"[{','.join((*CHOOSING, *OTHERS))}]",
        "data.test_patients": "[]",
        "data.threads": "1",
        "run.folder": str(folder),
        "run.name": name,
        "run.wandb": "off",
        "spatial_domains.oracle": f"cohorts/{cohort.name}",
        "spatial_domains.secondary": "[]",
        "spatial_domains.smooth": "1",
        "trainer.max_epochs": str(EPOCHS),
        "trainer.check_val_every_n_epoch": str(EPOCHS),
        "trainer.num_sanity_val_steps": "-1" if first else "0",
        "trainer.enable_progress_bar": "false",
        "checkpoint.monitor": "null",
        "checkpoint.save_top_k": "0",
    }
    return [text for option, value in given.items() for text in (f"--{option}", value)]


def scores(rows: list[Row], patients: tuple[str, ...], name: str = "stalign") -> tuple[float | None, float | None]:
    """Mean ARI (tied mixture) and MSE of a row over the slides of some patients."""
    found = []
    for metric in ("ari", "mse"):
        values = [
            row.mean
            for row in rows
            if row.slide != ALL and row.slide.endswith(patients) and (row.row, row.metric) == (name, metric)
        ]
        found.append(statistics.mean(values) if values else None)
    return found[0], found[1]


def table(results: dict[str, dict[int, list[Row]]]) -> list[str]:
    """A line a variant, with its paired difference from what it changes, over cohorts; then the floors."""
    lines = []
    for base, names in (("demo", FROM_DEMO), ("ours", [f"ours, {name}" for name in FROM_OURS])):
        if base in results:
            lines += _heading(base)
            lines += [
                _line(name, results[name], results[base], "stalign") for name in (base, *names) if name in results
            ]
            lines += [_line(name, results["demo"], results[base], name) for name in FLOORS] + [""]
    return lines


def _heading(base: str) -> list[str]:
    return [
        f"| | cohorts | ARI, P07 P08 | - {base} | ARI, P09 P10 | - {base} | MSE, P07 P08 | MSE, P09 P10 | - {base} |",
        "|---|---|---|---|---|---|---|---|---|",
    ]


def _line(title: str, by_seed: dict[int, list[Row]], base: dict[int, list[Row]], name: str) -> str:
    cells = [title, str(len(by_seed))]
    for metric, columns in ((0, ((CHOOSING, True), (OTHERS, True))), (1, ((CHOOSING, False), (OTHERS, True)))):
        for patients, compared in columns:
            pairs = [
                (scores(rows, patients, name)[metric], scores(base[seed], patients)[metric])
                for seed, rows in by_seed.items()
                if seed in base
            ]
            values = [own for own, _ in pairs if own is not None]
            cells.append(f"{statistics.mean(values):.3f}" if values else "")
            if compared:
                cells.append(f"{statistics.mean(own - other for own, other in pairs):+.3f}" if values else "")
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument(
        "--variants", help="names, by ';', to run; all where left out. The table has all that are finished"
    )
    parser.add_argument("--runs", type=Path, default=Path("runs/ablation"), help="folder of the runs, not run twice")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/ablation"))
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time; with 2 on two cores set OMP_NUM_THREADS=1")
    args = parser.parse_args()
    cohorts = [Cohort(int(seed)) for seed in args.seeds.split(",")]
    for cohort in cohorts:
        cohort.prepare()
    names = list(VARIANTS) if args.variants is None else args.variants.split(";")
    unknown = [name for name in names if name not in VARIANTS]
    if unknown:
        sys.exit(f"unknown variants {'; '.join(unknown)}; known: {'; '.join(VARIANTS)}")
    names = list(dict.fromkeys(["demo", *names]))  # what all others are compared with
    jobs = [(name, cohort) for cohort in cohorts for name in names]
    with ThreadPoolExecutor(args.jobs) as pool:
        list(pool.map(lambda job: run(args.runs, job[1], job[0]), jobs))
    results: dict[str, dict[int, list[Row]]] = {}
    for name in VARIANTS:
        for cohort in cohorts:
            rows = finished(args.runs, cohort, name)
            if rows is not None:
                results.setdefault(name, {})[cohort.seed] = rows
    absent = [name for name in VARIANTS if name not in results]
    lines = [
        f"Development cohorts {args.seeds}, mean over cohorts, one training of {EPOCHS} epochs a cohort: with few",
        "cohorts it shows directions, not margins. Under the variants the floors.",
        "",
        *table(results),
    ]
    if absent:
        lines += ["", f"Not run: {'; '.join(absent)}."]
    write_results(
        args.out,
        lines,
        [
            {
                "variant": name,
                "cohort": seed,
                "slide": row.slide,
                "row": row.row,
                "metric": row.metric,
                "mean": row.mean,
            }
            for name, by_seed in results.items()
            for seed, rows in by_seed.items()
            for row in rows
            if row.slide != ALL
        ],
    )
    print("\n".join(lines))


if __name__ == "__main__":
    main()
