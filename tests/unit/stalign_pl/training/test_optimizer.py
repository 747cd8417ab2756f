"""When AdamW is fused, and the peak of the learning rate by the size of the batch."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from lightning.pytorch.plugins.precision import MixedPrecision, Precision

from stalign_pl.errors import ConfigError
from stalign_pl.training.optimizer import OptimizerConfig, choose_fused, compute_learning_rate, compute_weight_decay

CPU, GPU = torch.device("cpu"), torch.device("cuda")
FULL, BF16 = Precision(), MixedPrecision("bf16-mixed", "cpu")
FP16 = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu"))


@pytest.mark.parametrize(
    ("asked", "device", "precision", "clips", "fused"),
    [
        (None, GPU, FULL, True, True),
        (None, GPU, BF16, False, False),
        (None, CPU, FULL, False, False),
        (True, CPU, FULL, True, True),
        (True, GPU, BF16, False, True),
        (False, GPU, FULL, False, False),
    ],
)
def test_fused_is_as_asked_or_by_the_device(
    asked: bool | None, device: torch.device, precision: Precision, clips: bool, fused: bool
) -> None:
    assert choose_fused(asked, device, precision, clips) is fused


@pytest.mark.parametrize(("precision", "clips"), [(BF16, True), (FP16, False)])
def test_fused_is_refused_where_gradients_are_looked_at_before_the_step(precision: Precision, clips: bool) -> None:
    with pytest.raises(ConfigError, match=rf"fused: true, and trainer\.precision {precision.precision}"):
        choose_fused(True, GPU, precision, clips)


def test_the_peak_is_rescaled_by_the_batch_where_a_reference_is_given() -> None:
    config = OptimizerConfig(lr=5e-4, final_lr=1e-6)
    assert config.for_batch(768) == config
    scaled = OptimizerConfig(lr=5e-4, final_lr=1e-6, reference_batch=256).for_batch(768)
    assert scaled.lr == pytest.approx(1.5e-3)
    assert scaled.final_lr == 1e-6
    with pytest.raises(ConfigError, match="final_lr"):  # a small batch, a rate below the last one
        OptimizerConfig(lr=5e-4, final_lr=1e-4, reference_batch=256).for_batch(16)


STEPS = 200


CONFIG = OptimizerConfig(lr=2e-3, final_lr=1e-5, warmup=0.1, weight_decay=0.04, final_weight_decay=0.4)


def test_the_rate_rises_to_its_peak_and_falls_to_its_end() -> None:
    rates = [compute_learning_rate(CONFIG, step, STEPS) for step in range(STEPS)]
    assert rates[20] == max(rates) == pytest.approx(2e-3)
    assert all(0 < before < after for before, after in pairwise(rates[:21]))
    assert all(before > after for before, after in pairwise(rates[20:]))
    assert rates[-1] == pytest.approx(1e-5)
    quarter = 20 + 179 // 4
    expected = 1e-5 + (2e-3 - 1e-5) * 0.5 * (1 + math.cos(math.pi * (quarter - 20) / 179))
    assert rates[quarter] == pytest.approx(expected)


def test_decay_goes_from_first_to_last() -> None:
    decays = [compute_weight_decay(CONFIG, step, STEPS) for step in range(STEPS)]
    assert decays[0] == pytest.approx(0.04)
    assert decays[-1] == pytest.approx(0.4)
    assert decays == sorted(decays)
    assert decays[STEPS // 2] == pytest.approx(0.22, abs=0.005)


def test_nothing_divides_by_zero_in_the_shortest_runs() -> None:
    for steps in (1, 2):
        rates = [compute_learning_rate(CONFIG, step, steps) for step in range(steps + 1)]
        assert all(0 < rate <= CONFIG.lr for rate in rates)


@pytest.mark.parametrize("wrong", [{"lr": 0.0}, {"final_lr": 1.0}, {"final_lr": -1.0}, {"warmup": 1.0}])
def test_settings_that_make_no_schedule_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        OptimizerConfig(**wrong)
