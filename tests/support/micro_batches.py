"""Runs in micro-batches, and whether two trained alike."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.support.runs import logged

BARE = (
    *("--trainer.num_sanity_val_steps", "0", "--trainer.limit_val_batches", "0"),
    *("--checkpoint.monitor", "null", "--checkpoint.save_top_k", "0", "--trainer.gradient_clip_val", "0.5"),
)
"""Nothing is evaluated: training alone."""


DRAWING = (
    *("--data.augmentation.mask_genes", "0.3", "--model.model.init_args.spot_gene.init_args.dropout", "0.3"),
    *("--model.model.init_args.niche_gene.init_args.dropout", "0.3"),
)


FOUR = ("--model.micro_batch", "4")  # of a global batch of 16


TWO = ("--trainer.devices", "2", "--trainer.strategy", "ddp")


def checkpoint(folder: Path) -> dict:
    return torch.load(folder / "tiny" / "checkpoints" / "last.ckpt", weights_only=True)


def assert_same_training(found: Path, expected: Path, rtol: float, atol: float) -> None:
    """Weights, logged losses and diagnostics."""
    torch.testing.assert_close(
        checkpoint(found)["state_dict"], checkpoint(expected)["state_dict"], rtol=rtol, atol=atol
    )
    rows = [[row for row in logged(run / "tiny") if "train/loss" in row] for run in (found, expected)]
    assert len(rows[0]) == len(rows[1]) == checkpoint(found)["global_step"]
    for one, other in zip(*rows, strict=True):
        assert one.keys() == other.keys()
        assert [float(one[name]) for name in other] == pytest.approx([float(x) for x in other.values()], abs=2e-3)
