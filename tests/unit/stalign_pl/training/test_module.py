"""What the LightningModule takes from its trainer."""

from __future__ import annotations

import pytest
from lightning import LightningDataModule, Trainer

from stalign_pl.objectives import ThreeLevelLoss
from stalign_pl.training.module import STAlignModule
from tests.support.small_model import small


def test_data_of_another_class_are_refused() -> None:
    module = STAlignModule(small(), ThreeLevelLoss())
    module.trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_model_summary=False)
    with pytest.raises(TypeError, match=r"trainer\.datamodule is NoneType; STAlignData is wanted"):
        module.setup("fit")
    module.trainer.datamodule = LightningDataModule()
    with pytest.raises(TypeError, match=r"trainer\.datamodule is LightningDataModule; STAlignData is wanted"):
        module.setup("fit")
