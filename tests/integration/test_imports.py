"""Evaluation starts light: what is heavy is imported where it is used."""

from __future__ import annotations

import pkgutil
import subprocess
import sys

from stalign_pl import evaluation


def test_importing_evaluation_loads_nothing_heavy() -> None:
    modules = [f"stalign_pl.evaluation.{found.name}" for found in pkgutil.iter_modules(evaluation.__path__)]
    assert len(modules) >= 9
    heavy = ("torch", "lightning", "sklearn", "matplotlib", "anndata", "scanpy", "wandb", "webdataset", "pandas")
    program = f"import sys, {', '.join(modules)}\nprint([name for name in {heavy} if name in sys.modules])"
    child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert child.returncode == 0, child.stderr
    assert child.stdout.strip() == "[]"
