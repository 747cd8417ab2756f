"""What the cohort benchmarks share: simulate, build, fit and test the demo's configuration in a folder of their own."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from stalign_pl.evaluation.results import ALL, Row, read_results

READOUTS = {"ari": ("tied_gmm",), "mse": ("ridge", "mean", "formula"), "pearson": ("ridge", "mean", "formula")}
"""The primary read-outs of each metric; others stay in a run's own results.json."""

FEWER_FLOORS = ("--spatial_domains.smooth", "0", "--spatial_domains.secondary", "[]")
"""Options of a run beside one that has all floors."""


@dataclass(frozen=True)
class Cohort:
    """A simulated cohort: its seed, and what differs from data_prep/simulation/parameters.py, as NAME=VALUE."""

    seed: int
    changes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return "-".join(["demo", str(self.seed), *(change.replace("=", "") for change in self.changes)])

    def prepare(self) -> None:
        """Simulate and build, unless that was done."""
        if (Path("shards") / self.name / "manifest.json").exists():
            return
        changes = [argument for change in self.changes for argument in ("--set", change)]
        cohort = f"cohorts/{self.name}"
        call("data_prep", "simulate", "--seed", str(self.seed), "--out", cohort, *changes)
        call("data_prep", "build", "--source", "space_ranger", "--input", cohort, "--out", f"shards/{self.name}")


def plain_name(*parts: str) -> str:
    """A run's folder: words, numbers and hyphens alone."""
    return "-".join(re.findall(r"[A-Za-z0-9_.]+", " ".join(parts)))


def options(given: Mapping[str, str], section: str = "") -> list[str]:
    """As a command line has them, each behind the section's name."""
    return [text for name, value in given.items() for text in (f"--{section}{name}", value)]


def call(*arguments: str) -> None:
    """Run one of the project's commands; what it prints is shown only where it fails, and that ends the benchmark."""
    done = subprocess.run([sys.executable, "-m", *arguments], capture_output=True, text=True)
    if done.returncode:
        tail = f"{done.stdout[-2000:]}{done.stderr[-4000:]}"
        sys.exit(f"{' '.join(arguments)} failed with status {done.returncode}:\n{tail}")


def fit_and_test(cohort: Cohort, runs: str, name: str, changes: Iterable[str] = ()) -> list[Row]:
    """Fit configs/demo.yaml for its number of epochs, test the last checkpoint; the means over slides.

    Nothing is chosen on the way: no validation. A run that has its table already is not run again.
    """
    common = ["--config", "configs/demo.yaml", "--data.shards", f"shards/{cohort.name}", "--run.folder", runs]
    common += ["--run.name", name, "--run.wandb", "off", *changes]
    common += ["--spatial_domains.oracle", f"cohorts/{cohort.name}"]
    run = Path(runs) / name
    if not (run / "table.txt").exists():
        call("stalign_pl", "fit", *common, "--trainer.limit_val_batches", "0", "--checkpoint.monitor", "null")
        call("stalign_pl", "test", *common, "--ckpt_path", "last")
    print(f"{name} done", flush=True)
    return [row for row in read_results(run / "results.json") if row.slide == ALL]


def number(rows: list[Row], split: str, name: str, metric: str) -> float | None:
    """One primary number, None where the rows do not hold it."""
    for row in rows:
        if (row.split, row.row, row.metric) == (split, name, metric) and row.readout in READOUTS[metric]:
            return row.mean
    return None
