"""The ablation's variants all parse and no two are the same; ring weights of tissue that is known."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from scipy import sparse

from stalign_pl.__main__ import main

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch):
    """Import a benchmark as its own command does."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module


@pytest.fixture
def resolved(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """What `fit` makes of a variant's arguments."""
    monkeypatch.chdir(ROOT)

    def parse(arguments: list[str]) -> dict[str, Any]:
        monkeypatch.setattr(sys, "argv", ["stalign_pl", "fit", *arguments, "--print_config"])
        with pytest.raises(SystemExit) as end:
            main()
        assert end.value.code == 0, capsys.readouterr().err
        return yaml.safe_load(capsys.readouterr().out)

    return parse


def test_every_variant_changes_something(benchmark, resolved) -> None:
    ablation = benchmark("ablation")
    parsed = {name: resolved(each.arguments("configs/demo.yaml")) for name, each in ablation.VARIANTS.items()}
    assert len({yaml.safe_dump(config) for config in parsed.values()}) == len(parsed)
    recipe = yaml.safe_load((ROOT / "configs/recipes/stalign.yaml").read_text())
    assert parsed["ours"]["data"]["niche"].items() >= recipe["data"]["niche"].items()
    assert parsed["ours"]["model"]["regression"] == recipe["model"]["regression"]
    assert parsed["demo"] == resolved(["--config", "configs/demo.yaml"])
    single = {"k": 6, "rings": 1, "weights": "uniform", "even_depth": False}
    assert parsed["niche: 6 nearest, alike (demo)"]["data"]["niche"].items() >= single.items()


def test_the_donors_variants_are_of_the_ablation(benchmark, resolved, tmp_path: Path) -> None:
    donors, ablation = benchmark("donor_ablation"), benchmark("ablation")
    common = donors._common(tmp_path, "ours-0", 0)
    for name in donors.NAMES:
        config = resolved(ablation.VARIANTS[name].arguments("configs/donor_out.yaml", *common))
        assert (config["data"]["train_patients"], config["data"]["val_patients"]) == (
            ["dlpfc_donor1"],
            ["dlpfc_donor3"],
        )
        assert (config["data"]["split"], config["trainer"]["max_epochs"]) == (None, donors.EPOCHS)


class Slide:
    """A hexagonal lattice of 3,600 spots, each of whose 40 genes follows `profiles`."""

    def __init__(self, profiles: np.ndarray) -> None:
        row, column = np.divmod(np.arange(3600), 60)
        self.xy = np.stack([column + row % 2 / 2, row * np.sqrt(3) / 2], axis=1)
        self.counts = np.random.default_rng(1).poisson(100 * profiles)

    def csr(self, genes: int) -> sparse.csr_matrix:
        assert genes == self.counts.shape[1]
        return sparse.csr_matrix(self.counts)


def test_ring_weights_of_tissue_that_is_and_that_is_not_alike(benchmark) -> None:
    """Two halves of one kind each: but at the border a neighbour says as much as the spot. Each alone: nothing."""
    ring_weights = benchmark("ring_weights").ring_weights
    random = np.random.default_rng(0)
    kinds = random.dirichlet(np.full(40, 3.0), 2)
    halves = Slide(kinds[(np.arange(3600) >= 1800).astype(int)])
    alone = Slide(random.dirichlet(np.full(40, 3.0), 3600))
    first, second = ring_weights([halves], 40, 2)
    assert 1 > first > second > 0.5
    assert np.abs(ring_weights([alone], 40, 2)).max() < 0.05
