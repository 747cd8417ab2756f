"""What each choice of configs/recipes/stalign.yaml is worth: one change at a time, over development cohorts.

    OMP_NUM_THREADS=1 python -m benchmarks.science.ablation --jobs 2    (about a minute a run and core)

"ours" is the recipe over configs/demo.yaml, "demo" is without it, every other variant is ours with the change that it
is named by; niches of one ring also mask two rings of neighbours in place of four. Fitted for six epochs, half of the
demo's, unless the variant says otherwise, and evaluated once, at the end, on four held-out patients: what is chosen is
chosen on P07 and P08, and P09 and P10, printed beside them, choose nothing. Writes table.md, losing variants too, and
results.json, what it is made from. A finished run is not run again unless its options or configurations have changed.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import yaml

from benchmarks.machine import write_results
from benchmarks.science.demo_runs import Cohort, call, options, plain_name
from benchmarks.science.paired_table import spread
from benchmarks.science.slide_scores import Results, Scores, make_entries, mean_scores
from stalign_pl.evaluation.results import Row, read_results
from stalign_pl.files import hash_json

CONFIG = "configs/demo.yaml"
EPOCHS = 6  # half of the demo's, so that a run is a minute
CHOOSING, OTHERS = ("P07", "P08"), ("P09", "P10")
FUSION, NICHE = "--model.model.init_args.fusion", "--data.niche"
OBJECTIVE, REGRESSION = "--model.objective.init_args", "--model.regression"
FLOORS = (
    *("untrained", "pca_smooth1", "train_pca", "train_pca_smooth1", "train_pca_smooth2"),
    *("train_niche_pca", "train_niche_pca_smooth1", "coordinates", "constant", "oracle"),
)
"""Rows printed under the variants, from ours' pass before training."""


@dataclass(frozen=True)
class Variant:
    """Options over the recipe, or without it."""

    options: tuple[str, ...] = ()
    recipe: bool = True

    def arguments(self, config: str, *common: str) -> list[str]:
        """Of `fit`, over a configuration: a variant's options override what all have in common."""
        return [
            *(text for path in self._configs(config) for text in ("--config", path)),
            *common,
            *self.options,
        ]

    def digest(self, config: str) -> str:
        """Of its configurations and options: another one is another run."""
        files = {path: yaml.safe_load(Path(path).read_text()) for path in self._configs(config)}
        return hash_json({"files": files, "options": list(self.options)})[:8]

    def _configs(self, config: str) -> list[str]:
        return [config, *(["configs/recipes/stalign.yaml"] * self.recipe)]


TWICE = ("--trainer.max_epochs", str(2 * EPOCHS), "--trainer.check_val_every_n_epoch", str(2 * EPOCHS))
WIDE = (f"{FUSION}.init_args.out", "64")


def loss_weights(spot: float, niche: float) -> tuple[str, ...]:
    """What is left of 1 is the weight of the cross-scale loss."""
    return (f"{OBJECTIVE}.spot_weight", str(spot), f"{OBJECTIVE}.niche_weight", str(niche))


CHANGES: dict[str, tuple[str, ...]] = {
    "niche: 6 nearest, alike (demo)": (
        *(f"{NICHE}.k", "6", f"{NICHE}.rings", "1", f"{NICHE}.weights", "uniform", f"{NICHE}.even_depth", "false"),
    ),
    "niche: 3 nearest, alike (paper)": (
        *(f"{NICHE}.k", "3", f"{NICHE}.rings", "1", f"{NICHE}.weights", "uniform", f"{NICHE}.even_depth", "false"),
    ),
    "niche: three rings": (f"{NICHE}.rings", "3", f"{NICHE}.exclude_rings", "4"),
    "niche: rings weighted 1 / (1 + ring)": (f"{NICHE}.weights", "ring"),
    "niche: rings at 2 and 2 of 16 (as ring_weights.py learns)": (f"{NICHE}.weights", "[0.125, 0.125]"),
    "niche: depth not evened": (f"{NICHE}.even_depth", "false"),
    "niche: without its spot": (f"{NICHE}.leave_target_out", "true"),
    "negatives: half from other slides": (f"{OBJECTIVE}.other_slides", "0.5"),
    "negatives: neighbours not masked": (f"{NICHE}.exclude_rings", "0"),
    "losses: .1 spot, .1 niche, .8 cross": loss_weights(0.1, 0.1),
    "losses: .8 spot, .1 niche, .1 cross": loss_weights(0.8, 0.1),
    "temperature: fixed": (f"{OBJECTIVE}.learn_temperature", "false"),
    "fusion: gated": (FUSION, "stalign_pl.models.Gated", f"{FUSION}.init_args.out", "16"),
    "fusion: ABFN, 16 wide": (
        *(FUSION, "stalign_pl.models.ABFN", f"{FUSION}.init_args.heads", "4", f"{FUSION}.init_args.head_dim", "32"),
        *(f"{FUSION}.init_args.bottleneck", "32", f"{FUSION}.init_args.hidden", "256", f"{FUSION}.init_args.out", "16"),
    ),
    "fusion: 64 wide": WIDE,
    "niche to its genes: none (demo)": (f"{REGRESSION}.niche_to_gene", "0"),
    "niche to its genes: 100": (f"{REGRESSION}.niche_to_gene", "100"),
    "images to genes: none (demo)": (f"{REGRESSION}.image_to_gene", "0"),
    "images to genes: the spot's": (f"{REGRESSION}.image_target", "spot"),
    "genes: 30 % hidden": ("--data.augmentation.mask_genes", "0.3"),
    "genes: scaled to 10,000 (demo)": ("--data.genes.target_sum", "10000"),
    "stain: as it is": ("--data.stain", "none"),
    "rate: .005": ("--model.optimizer.lr", "0.005"),
    "rate: .002 (demo)": ("--model.optimizer.lr", "0.002"),
    "twice the epochs": TWICE,
    "twice the epochs, 64 wide": (*TWICE, *WIDE),
    "twice the epochs, depth not evened": (*TWICE, f"{NICHE}.even_depth", "false"),
}
"""Name -> what it changes in ours."""

VARIANTS: dict[str, Variant] = {
    "ours": Variant(),
    "demo": Variant(recipe=False),
    **{name: Variant(options) for name, options in CHANGES.items()},
}


def run_name(cohort: Cohort, variant: str) -> str:
    return plain_name(cohort.name, variant, VARIANTS[variant].digest(CONFIG))


def finished(folder: Path, cohort: Cohort, variant: str) -> list[Row] | None:
    """A row a slide of a run that has come to its end."""
    return rows_of_finished(folder / run_name(cohort, variant), CHOOSING)


def rows_of_finished(run: Path, patients: tuple[str, ...]) -> list[Row] | None:
    """The rows of a run that has its model's numbers; None of another."""
    results = run / "results.json"
    if not results.exists() or None in mean_scores(rows := read_results(results), patients):
        return None
    return rows


def run(folder: Path, cohort: Cohort, variant: str) -> None:
    """Fit and evaluate, unless that was done."""
    if finished(folder, cohort, variant) is None:
        call("stalign_pl", "fit", *VARIANTS[variant].arguments(CONFIG, *_common(folder, cohort, variant)))
        print(f"{run_name(cohort, variant)} done", flush=True)


def _common(folder: Path, cohort: Cohort, variant: str) -> list[str]:
    """On a cohort; floors for ours alone."""
    given = {
        "data.shards": f"shards/{cohort.name}",
        "data.val_patients": f"[{','.join((*CHOOSING, *OTHERS))}]",
        "spatial_domains.oracle": f"cohorts/{cohort.name}",
        "spatial_domains.smooth": "1",
    }
    return options(given | evaluated_once(folder, run_name(cohort, variant), EPOCHS, floors=variant == "ours"))


def evaluated_once(folder: Path, name: str, epochs: int, floors: bool) -> dict[str, str]:
    """Options of a run that is evaluated at its end alone, and, for the floors, before it."""
    return {
        "data.test_patients": "[]",
        "data.threads": "1",
        "run.folder": str(folder),
        "run.name": name,
        "run.wandb": "off",
        "spatial_domains.secondary": "[]",
        "trainer.max_epochs": str(epochs),
        "trainer.check_val_every_n_epoch": str(epochs),
        "trainer.num_sanity_val_steps": "-1" if floors else "0",
        "trainer.enable_progress_bar": "false",
        "checkpoint.monitor": "null",
        "checkpoint.save_top_k": "0",
    }


def table(results: Results) -> list[str]:
    """A line a variant, with its paired difference from ours, mean and sd over cohorts; then the floors."""
    ours = results["ours"]
    variants = [_line(name, by_seed, ours) for name, by_seed in results.items() if by_seed.keys() & ours.keys()]
    floors = [_line(f"*{name}*", ours, ours, name) for name in FLOORS]
    return [
        "| | cohorts | ARI, P07 P08 | - ours | ARI, P09 P10 | - ours | MSE, P07 P08 | - ours | MSE, P09 P10 | - ours |",
        "|---|---|---|---|---|---|---|---|---|---|",
        *variants,
        *floors,
    ]


def _line(title: str, by_seed: Mapping[int, Scores], ours: Mapping[int, Scores], name: str = "stalign") -> str:
    shared = [seed for seed in by_seed if seed in ours]
    cells = [title, str(len(shared))]
    for metric in (0, 1):
        for patients in (CHOOSING, OTHERS):
            values = [mean_scores(by_seed[seed], patients, name)[metric] for seed in shared]
            if None in values:
                cells += ["", ""]
                continue
            gains = [
                value - mean_scores(ours[seed], patients)[metric] for seed, value in zip(shared, values, strict=True)
            ]
            cells += [f"{statistics.mean(values):.3f}", "" if title == "ours" else spread(gains, "+")]
    return "| " + " | ".join(cells) + " |"


def make_page(results: Results, seeds: str) -> list[str]:
    """Return table.md: the setting, the table, and which variants were not run."""
    lines = [
        f"Development cohorts {seeds}, one training a cohort, of {EPOCHS} epochs unless the line says otherwise;",
        "mean over cohorts, and mean ± sd of the difference, cohort by cohort. Under the variants the floors.",
        "",
        *table(results),
    ]
    absent = [name for name in VARIANTS if name not in results]
    if absent:
        lines += ["", f"Not run: {'; '.join(absent)}."]
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="0,1,2,3,4", help="of the cohorts, development seeds")
    parser.add_argument(
        "--variants", help="names, by ';', to run; all where left out. The table has all that are finished"
    )
    parser.add_argument("--runs", type=Path, default=Path("runs/ablation"), help="folder of the runs, not run twice")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/ablation"))
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time; with 2 on two cores set OMP_NUM_THREADS=1")
    args = parser.parse_args()
    names = list(VARIANTS) if args.variants is None else args.variants.split(";")
    unknown = [name for name in names if name not in VARIANTS]
    if unknown:
        sys.exit(f"unknown variants {'; '.join(unknown)}; known: {'; '.join(VARIANTS)}")
    cohorts = [Cohort(int(seed)) for seed in args.seeds.split(",")]
    if "ours" not in names and not any(finished(args.runs, cohort, "ours") for cohort in cohorts):
        sys.exit(
            f"ours, which all others are compared with, is not finished in {args.runs}: name it in --variants, too"
        )
    for cohort in cohorts:
        cohort.prepare()
    jobs = [(name, cohort) for cohort in cohorts for name in names]
    with ThreadPoolExecutor(args.jobs) as pool:
        list(pool.map(lambda job: run(args.runs, job[1], job[0]), jobs))
    results: dict[str, dict[int, list[Row]]] = {}
    for name in VARIANTS:
        for cohort in cohorts:
            rows = finished(args.runs, cohort, name)
            if rows is not None:
                results.setdefault(name, {})[cohort.seed] = rows
    lines = make_page(results, args.seeds)
    write_results(args.out, lines, make_entries(results, "cohort", FLOORS))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
