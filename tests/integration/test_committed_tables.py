"""The committed results.json of the science benchmarks hold all that their table.md is made from."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from tests.support.paths import REPOSITORY

RESULTS = REPOSITORY / "benchmarks/results"


def lines_of(folder: Path) -> list[str]:
    return (folder / "table.md").read_text().removesuffix("\n").split("\n")


@pytest.mark.parametrize("name", ["cohorts", "cohorts-first-look", "recipes"])
def test_tables_over_cohorts(benchmark: Callable[[str], ModuleType], name: str) -> None:
    entries = benchmark("science.paired_table").read_entries(RESULTS / name / "results.json")
    seeds = ",".join(dict.fromkeys(str(entry.cohort) for entry in entries))
    *page, machine = lines_of(RESULTS / name)
    assert benchmark("science.over_cohorts").make_page(entries, seeds) == page
    assert machine.startswith("Python ")


@pytest.mark.parametrize(
    ("name", "module", "seed"),
    [
        ("ablation", "ablation", "cohort"),
        ("ablation_again", "ablation", "cohort"),
        ("donor_ablation", "donor_ablation", "seed"),
    ],
)
def test_tables_of_variants(benchmark: Callable[[str], ModuleType], name: str, module: str, seed: str) -> None:
    results = benchmark("science.slide_scores").read_scores(RESULTS / name / "results.json", seed)
    seeds = ",".join(str(number) for number in results["ours"])
    assert benchmark(f"science.{module}").make_page(results, seeds) == lines_of(RESULTS / name)


def test_table_of_ring_weights(benchmark: Callable[[str], ModuleType]) -> None:
    found: dict[int, dict[int, list[float]]] = {}
    for entry in json.loads((RESULTS / "ring_weights/results.json").read_text()):
        found.setdefault(entry["rings"], {})[entry["cohort"]] = entry["weights"]
    page = benchmark("science.ring_weights").make_page(found, ",".join(map(str, found[1])))
    assert page == lines_of(RESULTS / "ring_weights")
