"""A run whose gradients are poisoned at chosen steps."""

from __future__ import annotations

from pathlib import Path

from tests.support.runs import logged


def poisoned(*steps: int, rank: int = 0) -> list[str]:
    """Options of a loss that is NaN at `steps` on `rank`."""
    named = f"{{class_path: tests.support.poisoned.PoisonedLoss, init_args: {{steps: {list(steps)}, rank: {rank}}}}}"
    return ["--model.objective", named]


def column(run: Path, name: str) -> list[float]:
    return [float(row[name]) for row in logged(run / "tiny") if name in row]
