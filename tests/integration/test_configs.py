"""Every shipped configuration is one the program takes, and names classes that there are."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.paths import REPOSITORY
from tests.support.printed_config import printed_config

TRAINING = sorted((REPOSITORY / "configs").glob("*.yaml"))
BUILDING = sorted((REPOSITORY / "configs" / "data").glob("*.yaml"))


def classes_named(value: object) -> Iterator[tuple[str, dict[str, Any]]]:
    """(class path, its options) of every class that a configuration names."""
    if isinstance(value, dict):
        if "class_path" in value:
            yield value["class_path"], value.get("init_args", {})
        for part in value.values():
            yield from classes_named(part)
    elif isinstance(value, list):
        for part in value:
            yield from classes_named(part)


def test_there_is_a_demo() -> None:
    assert "demo.yaml" in [path.name for path in TRAINING]


def resolved(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *configs: Path) -> dict[str, Any]:
    """What `fit` makes of the files, each over those before it."""
    return printed_config(monkeypatch, capsys, *(text for path in configs for text in ("--config", str(path))))


@pytest.mark.parametrize("path", TRAINING, ids=lambda path: path.stem)
def test_a_training_config_parses(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Unknown keys and values of another type are errors, so what is printed holds all that the file says."""
    found, said = resolved(monkeypatch, capsys, path), yaml.safe_load(path.read_text())
    assert found["run"]["name"] == said["run"]["name"]
    for key, value in said["data"]["composition"].items():
        assert found["data"]["composition"][key] == value


def test_the_papers_recipe_is_what_the_papers_configuration_says(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    paper, overlay = REPOSITORY / "configs" / "paper.yaml", REPOSITORY / "configs" / "recipes" / "paper.yaml"
    assert resolved(monkeypatch, capsys, paper, overlay) == resolved(monkeypatch, capsys, paper)
    demo = REPOSITORY / "configs" / "demo.yaml"
    objective = resolved(monkeypatch, capsys, demo, overlay)["model"]["objective"]["init_args"]
    assert (objective["temperature"], objective["other_slides"]) == (0.1, 1.0)


@pytest.mark.parametrize("path", TRAINING, ids=lambda path: path.stem)
def test_a_training_config_names_classes_and_their_options(path: Path) -> None:
    named = list(classes_named(yaml.safe_load(path.read_text())))
    assert len(named) >= 6  # the model, its four streams and their fusion
    for name, options in named:
        module, _, attribute = name.rpartition(".")
        known = inspect.signature(getattr(importlib.import_module(module), attribute)).parameters
        assert set(options) <= set(known), name


@pytest.mark.parametrize("path", BUILDING, ids=lambda path: path.stem)
def test_a_build_config_parses(path: Path) -> None:
    from data_prep.build.config import read_config

    assert read_config(path).sources


def test_the_command_line_imports_no_heavy_package() -> None:
    """They are imported where used. Not on the list: wandb and matplotlib, which timm and torchmetrics import."""
    heavy = ("anndata", "scanpy", "webdataset", "sklearn", "h5py")
    code = f"import sys, stalign_pl.cli.lightning; print(*[name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []
