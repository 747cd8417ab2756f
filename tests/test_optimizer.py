"""When AdamW is fused, and the peak of the learning rate by the size of the batch."""

from __future__ import annotations

import pytest
import torch
from lightning.pytorch.plugins.precision import MixedPrecision, Precision

from stalign_pl.errors import ConfigError
from stalign_pl.training.optimizer import OptimizerConfig, takes_fused

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
def test_fused_is_as_asked_or_by_the_device(asked, device, precision, clips, fused) -> None:
    assert takes_fused(asked, device, precision, clips) is fused


@pytest.mark.parametrize(("precision", "clips"), [(BF16, True), (FP16, False)])
def test_fused_is_refused_where_gradients_are_looked_at_before_the_step(precision, clips) -> None:
    with pytest.raises(ConfigError, match=rf"fused: true, and trainer\.precision {precision.precision}"):
        takes_fused(True, GPU, precision, clips)


def test_the_peak_is_rescaled_by_the_batch_where_a_reference_is_given() -> None:
    config = OptimizerConfig(lr=5e-4, final_lr=1e-6)
    assert config.for_batch(768) == config
    scaled = OptimizerConfig(lr=5e-4, final_lr=1e-6, reference_batch=256).for_batch(768)
    assert scaled.lr == pytest.approx(1.5e-3)
    assert scaled.final_lr == 1e-6
    with pytest.raises(ConfigError, match="final_lr"):  # a small batch, a rate below the last one
        OptimizerConfig(lr=5e-4, final_lr=1e-4, reference_batch=256).for_batch(16)
