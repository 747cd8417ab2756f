"""Every recipe is loaded over a small base, built with small encoders of the kinds that it names, and stepped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from stalign_pl.cli.main import main
from tests.support.paths import REPOSITORY
from tests.support.runs import TINY, logged, run_here
from tests.support.scgpt_folder import published

CONFIGS = REPOSITORY / "configs"
RECIPES = sorted((CONFIGS / "recipes").rglob("*.yaml"))
LEVELS = {
    "spot_only": {"spot"},
    "niche_only": {"niche"},
    "uni_only": {"cross"},
    "scgpt_only": {"cross"},
    "without_cross": {"spot", "niche"},
}
"""Recipe -> contrasts that it trains; the others all three."""

SMALL = {
    "TimmStream": {"name": "test_vit", "size": 32, "pretrained": False, "model_args": {"dynamic_img_size": True}},
    "NicheGeneTransformer": {"dim": 16, "depth": 1, "heads": 2, "head_dim": 8, "mlp": 16, "dropout": 0.0},
    "GeneMLP": {"hidden": 16},
    "ABFN": {"heads": 2, "head_dim": 8, "bottleneck": 8, "hidden": 16},
}
"""Class -> options in place of a recipe's own."""


def small(value: object, scgpt: Path) -> object:
    """The same configuration with small encoders: what a part is stays, and whether it trains."""
    if isinstance(value, list):
        return [small(part, scgpt) for part in value]
    if not isinstance(value, dict):
        return value
    changed = {key: small(part, scgpt) for key, part in value.items()}
    kind = str(value.get("class_path", "")).rpartition(".")[2]
    if kind == "ScGPT":
        changed["init_args"] |= {"folder": str(scgpt)}
    elif kind in SMALL:
        changed["init_args"] = changed.get("init_args", {}) | SMALL[kind]
    return changed


def base_of(recipe: Path) -> dict[str, Any]:
    """tiny.yaml; for table 3 with the model of configs/paper.yaml."""
    base = yaml.safe_load(TINY.read_text())
    if recipe.parent.name == "table3":
        paper = yaml.safe_load((CONFIGS / "paper.yaml").read_text())
        base["model"] = paper["model"]
        base["model"]["model"]["init_args"] |= {"tokens": 2, "width": 16, "dim": 16}
    return base


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_trains(recipe: Path, tiny_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scgpt, table = published(tmp_path / "scgpt"), tmp_path / "clusters.json"
    configs = []
    for name, content in (("base", base_of(recipe)), ("recipe", yaml.safe_load(recipe.read_text()))):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(small(content, scgpt)))
        configs += ["--config", str(tmp_path / f"{name}.yaml")]
    given = {
        "run.name": "recipe",
        "run.folder": tmp_path,
        "data.shards": tiny_shards,
        "trainer.max_steps": 2,
        "trainer.limit_val_batches": 0,
        "trainer.num_sanity_val_steps": 0,
        "checkpoint.monitor": "null",
        "checkpoint.save_top_k": 0,
    }
    if recipe.stem == "authors_code":
        monkeypatch.setattr("sys.argv", ["stalign_pl", "clusters", str(tiny_shards), "--out", str(table)])
        assert main() == 0
        given["data.clusters"] = table
    assert run_here("fit", *configs, *(f"--{key}={value}" for key, value in given.items())) == 0
    rows = [row for row in logged(tmp_path / "recipe") if "train/loss" in row]
    assert len(rows) == 2
    losses = {name.removeprefix("train/loss_"): float(row[name]) for row in rows for name in row if "/loss_" in name}
    regressions = yaml.safe_load(recipe.read_text()).get("model", {}).get("regression", {})
    expected = {name for name, weight in regressions.items() if name.endswith("_to_gene") and weight > 0}
    assert losses.keys() == expected | LEVELS.get(recipe.stem, {"spot", "niche", "cross"})
    assert all(0 < value < 20 for value in losses.values())
