"""PlanRecord: what an epoch is made of, said when `fit` starts and logged once an epoch."""

from __future__ import annotations

from lightning import Callback, LightningModule, Trainer

from stalign_pl.data.datamodule import STAlignData
from stalign_pl.data.plan_figures import PlanFigures, excluded_shares, plan_figures


class PlanRecord(Callback):
    """Prints the plan's figures and gives the loggers `plan/...`; `python -m stalign_pl plan` prints the same."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        data: STAlignData = trainer.datamodule
        self._shares = excluded_shares(data.train_slides, data.niche)
        figures = self._figures(trainer)
        print("plan: " + "; ".join(f"{what} {value}" for what, value in figures.described()))

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Straight to the loggers: a figure of the epoch's start belongs to that step, also in a resumed run."""
        if not trainer.is_global_zero:
            return
        metrics = self._figures(trainer).metrics()
        for logger in trainer.loggers:
            logger.log_metrics(metrics, trainer.global_step)

    def _figures(self, trainer: Trainer) -> PlanFigures:
        data: STAlignData = trainer.datamodule
        epoch = trainer.current_epoch
        return plan_figures(data.training_plan(epoch), epoch, data.train_slides, self._shares)
