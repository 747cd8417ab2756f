"""A run's optimiser as the configuration asks for it: rescaled rate, fused kernel, half precision."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from stalign_pl.batch.embeddings import Embeddings
from stalign_pl.batch.spot_ids import SpotIds
from stalign_pl.objectives import ThreeLevelLoss
from stalign_pl.objectives.three_level import LossTerms
from tests.support.micro_batches import BARE, checkpoint
from tests.support.poisoned_run import column
from tests.support.runs import arguments, run_here

SIX = (*BARE, "--trainer.max_steps", "6")


def test_the_rate_is_rescaled_said_once_and_logged(
    tiny_shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A global batch of 16 for a reference of 64; a warm-up of two steps, and half a cosine over the other four."""
    given = ("--model.optimizer.reference_batch", "64", "--model.optimizer.warmup", "0.34")
    assert run_here(*arguments("fit", tiny_shards, tmp_path, *SIX, *given, "--model.optimizer.final_lr", "0")) == 0
    assert capsys.readouterr().out.count("learning rate: 0.00025 at its peak, 0.001 x 16 / 64 spots") == 1
    falling = [0.5 * (1 + math.cos(math.pi * step / 3)) for step in range(4)]
    expected = [2.5e-4 * share for share in (1 / 3, 2 / 3, *falling)]
    assert column(tmp_path, "train/lr") == pytest.approx(expected, abs=1e-9)


def test_fused_adamw_trains_the_same(tiny_shards: Path, tmp_path: Path) -> None:
    states = {}
    for fused in ("true", "false"):
        given = arguments("fit", tiny_shards, tmp_path / fused, *SIX, "--model.optimizer.fused", fused)
        assert run_here(*given) == 0
        states[fused] = checkpoint(tmp_path / fused)
        assert {group["fused"] for group in states[fused]["optimizer_states"][0]["param_groups"]} == {fused == "true"}
    # a weight whose gradient is rounding may move either way, by the learning rate of 1e-3 at most
    torch.testing.assert_close(states["true"]["state_dict"], states["false"]["state_dict"], rtol=1e-3, atol=2e-4)


def test_bfloat16_runs_the_model_alone(tiny_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss, its terms and the weights are float32; it is near that of float32."""
    forward, met = ThreeLevelLoss.forward, []

    def look(self: ThreeLevelLoss, embeddings: Embeddings, ids: SpotIds) -> LossTerms:
        terms = forward(self, embeddings, ids)
        met.append((embeddings.spot_image.dtype, terms.total.dtype, terms.cross.dtype))
        return terms

    monkeypatch.setattr(ThreeLevelLoss, "forward", look)
    losses = {}
    for precision in ("bf16-mixed", "32-true"):
        given = arguments("fit", tiny_shards, tmp_path / precision, *SIX, "--trainer.precision", precision)
        assert run_here(*given) == 0
        losses[precision] = column(tmp_path / precision, "train/loss")
    assert met == [(torch.bfloat16, torch.float32, torch.float32)] * 6 + [(torch.float32,) * 3] * 6
    assert losses["bf16-mixed"] == pytest.approx(losses["32-true"], abs=0.1)
    assert losses["bf16-mixed"] != losses["32-true"]
    assert {value.dtype for value in checkpoint(tmp_path / "bf16-mixed")["state_dict"].values()} == {torch.float32}
