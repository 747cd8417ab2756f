"""Learning rate and weight decay over a run, at the points that the configuration names."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

from stalign_pl.errors import ConfigError
from stalign_pl.training.optimizer import OptimizerConfig, learning_rate, weight_decay

STEPS = 200
CONFIG = OptimizerConfig(lr=2e-3, final_lr=1e-5, warmup=0.1, weight_decay=0.04, final_weight_decay=0.4)


def test_the_rate_rises_to_its_peak_and_falls_to_its_end() -> None:
    rates = [learning_rate(CONFIG, step, STEPS) for step in range(STEPS)]
    assert rates[20] == max(rates) == pytest.approx(2e-3)
    assert all(0 < before < after for before, after in pairwise(rates[:21]))
    assert all(before > after for before, after in pairwise(rates[20:]))
    assert rates[-1] == pytest.approx(1e-5)
    quarter = 20 + 179 // 4
    expected = 1e-5 + (2e-3 - 1e-5) * 0.5 * (1 + math.cos(math.pi * (quarter - 20) / 179))
    assert rates[quarter] == pytest.approx(expected)


def test_decay_goes_from_first_to_last() -> None:
    decays = [weight_decay(CONFIG, step, STEPS) for step in range(STEPS)]
    assert decays[0] == pytest.approx(0.04)
    assert decays[-1] == pytest.approx(0.4)
    assert decays == sorted(decays)
    assert decays[STEPS // 2] == pytest.approx(0.22, abs=0.005)


def test_nothing_divides_by_zero_in_the_shortest_runs() -> None:
    for steps in (1, 2):
        rates = [learning_rate(CONFIG, step, steps) for step in range(steps + 1)]
        assert all(0 < rate <= CONFIG.lr for rate in rates)


@pytest.mark.parametrize("wrong", [{"lr": 0.0}, {"final_lr": 1.0}, {"final_lr": -1.0}, {"warmup": 1.0}])
def test_settings_that_make_no_schedule_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        OptimizerConfig(**wrong)
