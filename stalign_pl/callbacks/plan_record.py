"""PlanRecord: what the training batches are made of, said when training starts and logged each step."""

from __future__ import annotations

import numpy as np
from lightning import Callback, LightningModule, Trainer

from stalign_pl.data.plan import PADDING
from stalign_pl.data.plan_figures import plan_figures


class PlanRecord(Callback):
    """Prints the figures of the epoch's plan; logs `train/slides` and `train/padding` of each global batch.

    `train/slides` counts a global batch's slides, `train/padding` is the share of its rows that are no spots (0 to 1).
    Both are worked out from the plan, on the host: the same on every rank, and no wait for the device. What share of
    the pairs is masked is not estimated here, for that reads the shards: `train/masked_pairs` counts it each step.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Not at `on_fit_start`: a run that goes on knows its epoch only from here."""
        if trainer.is_global_zero:
            data, epoch = trainer.datamodule, trainer.current_epoch
            lines = plan_figures(data.training_plan(epoch), epoch, data.train_slides).described()
            print("the plan: " + "; ".join(f"{name}: {value}" for name, value in lines), flush=True)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch, batch_idx: int) -> None:
        slides = trainer.datamodule.training_plan(trainer.train_dataloader.epoch).slide[batch_idx]
        valid = slides != PADDING
        pl_module.log("train/slides", float(len(np.unique(slides[valid]))))
        pl_module.log("train/padding", float(1 - valid.mean()))
