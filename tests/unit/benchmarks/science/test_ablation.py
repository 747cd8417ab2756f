"""The ablation's variants all parse and no two are the same; ring weights of tissue that is known."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import yaml
from scipy import sparse

from stalign_pl.evaluation.results import Row, write_results
from tests.support.paths import REPOSITORY
from tests.support.printed_config import printed_config


@pytest.fixture
def resolved(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., dict[str, Any]]:
    """What `fit` makes of a variant's arguments."""
    return partial(printed_config, monkeypatch, capsys)


def test_every_variant_changes_something(
    benchmark: Callable[[str], ModuleType], resolved: Callable[..., dict[str, Any]]
) -> None:
    ablation = benchmark("science.ablation")
    parsed = {name: resolved(*each.arguments("configs/demo.yaml")) for name, each in ablation.VARIANTS.items()}
    assert len({yaml.safe_dump(config) for config in parsed.values()}) == len(parsed)
    recipe = yaml.safe_load((REPOSITORY / "configs/recipes/stalign.yaml").read_text())
    assert parsed["ours"]["data"]["niche"].items() >= recipe["data"]["niche"].items()
    assert parsed["ours"]["model"]["regression"] == recipe["model"]["regression"]
    assert parsed["demo"]["model"]["model"]["init_args"]["fusion"]["class_path"] == "stalign_pl.models.ABFN"
    single = {"k": 6, "rings": 1, "weights": "uniform", "even_depth": False}
    assert parsed["niche: 6 nearest, alike (demo)"]["data"]["niche"].items() >= single.items()


def test_the_donors_variants_are_of_the_ablation(
    benchmark: Callable[[str], ModuleType], resolved: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    donors, ablation = benchmark("science.donor_ablation"), benchmark("science.ablation")
    common = donors._common(tmp_path, "ours-0", 0, floors=True)
    for name in donors.NAMES:
        config = resolved(*ablation.VARIANTS[name].arguments("configs/donor_out.yaml", *common))
        assert (config["data"]["train_patients"], config["data"]["val_patients"]) == (
            ["dlpfc_donor1"],
            ["dlpfc_donor3"],
        )
        assert (config["data"]["split"], config["trainer"]["max_epochs"]) == (None, donors.EPOCHS)


def rows(name: str = "stalign", **ari: float) -> list[Row]:
    """Of one run: the ARI of each patient's slide, and an MSE of two more."""
    return [
        Row("spatial_domains", "val", f"sim_{patient}", name, "", metric, value + more, 0.0, 1)
        for patient, value in ari.items()
        for metric, more in (("ari", 0), ("mse", 2))
    ]


def test_the_table_pairs_cohorts(benchmark: Callable[[str], ModuleType]) -> None:
    """Differences are of the cohorts that both have; an ARI of 0 is a number; a floor without MSE has empty cells."""
    ablation = benchmark("science.ablation")
    ours = {seed: rows(P07=value, P08=value, P09=0.5, P10=0.7) for seed, value in ((0, 0.5), (1, 0.7), (2, 0.1))}
    ours[0] += [row for row in rows("coordinates", P07=0.2, P08=0.4, P09=0.3, P10=0.3) if row.metric == "ari"]
    gated = {seed: rows(P07=0.0, P08=value, P09=0.6, P10=0.7) for seed, value in ((0, 0.8), (1, 0.8), (9, 0.0))}
    lines = ablation.table({"ours": ours, "fusion: gated": gated, "stain: as it is": {9: rows(P07=1, P08=1, P09=1)}})
    assert lines[2] == "| ours | 3 | 0.433 |  | 0.600 |  | 2.433 |  | 2.600 |  |"
    cells = [cell.strip() for cell in lines[3].split("|")[1:-1]]
    assert cells[:4] == ["fusion: gated", "2", "0.400", "-0.200 ± 0.141"]
    assert cells[4:6] == ["0.650", "+0.050 ± 0.000"]
    assert not any("stain" in line for line in lines)
    only = ablation.table({"ours": {0: ours[0]}})
    floor = next(line for line in only if "*coordinates*" in line)
    assert floor == "| *coordinates* | 1 | 0.300 | -0.200 | 0.300 | -0.300 |  |  |  |  |"


def test_a_run_that_ended_at_zero_is_finished(benchmark: Callable[[str], ModuleType], tmp_path: Path) -> None:
    ablation = benchmark("science.ablation")
    assert ablation.rows_of_finished(tmp_path, ("P07",)) is None
    write_results(tmp_path / "results.json", rows(P07=0.0), {})
    assert len(ablation.rows_of_finished(tmp_path, ("P07",))) == 2
    assert ablation.rows_of_finished(tmp_path, ("P08",)) is None


def test_another_recipe_is_another_run(benchmark: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    variants = benchmark("science.ablation").VARIANTS
    digests = {each.digest("configs/demo.yaml") for each in variants.values()}
    assert len(digests) == len(variants)
    assert variants["ours"].digest("configs/donor_out.yaml") not in digests


class Slide:
    """A hexagonal lattice of 3,600 spots, each of whose 40 genes follows `profiles`."""

    def __init__(self, profiles: np.ndarray) -> None:
        row, column = np.divmod(np.arange(3600), 60)
        self.xy = np.stack([column + row % 2 / 2, row * np.sqrt(3) / 2], axis=1)
        self.counts = np.random.default_rng(1).poisson(100 * profiles)

    def csr(self, genes: int) -> sparse.csr_matrix:
        assert genes == self.counts.shape[1]
        return sparse.csr_matrix(self.counts)


def test_ring_weights_of_tissue_that_is_and_that_is_not_alike(benchmark: Callable[[str], ModuleType]) -> None:
    """Two halves of one kind each: but at the border a neighbour says as much as the spot. Each alone: nothing."""
    ring_weights = benchmark("science.ring_weights").ring_weights
    random = np.random.default_rng(0)
    kinds = random.dirichlet(np.full(40, 3.0), 2)
    halves = Slide(kinds[(np.arange(3600) >= 1800).astype(int)])
    alone = Slide(random.dirichlet(np.full(40, 3.0), 3600))
    first, second = ring_weights([halves], 40, 2)
    assert 1 > first > second > 0.5
    assert np.abs(ring_weights([alone], 40, 2)).max() < 0.05
