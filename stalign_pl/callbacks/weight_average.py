"""WeightAverage: an exponential moving average of the weights, which evaluation uses and training does not see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, WeightAveraging
from lightning.pytorch.utilities.types import STEP_OUTPUT
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from stalign_pl.errors import ConfigError


@dataclass(frozen=True)
class EmaConfig:
    """Exponential moving average of the weights.

    Attributes:
        decay: share of the average that stays at each step, between 0 and 1 (0.999); null has no average.
        start: step after which averaging begins, at least 1; up to it the average is the weights themselves, so that
            what a random start left is not averaged in.

    Raises:
        ConfigError: a number outside its range.
    """

    decay: float | None = None
    start: int = 1

    def __post_init__(self) -> None:
        if self.decay is not None and not 0 < self.decay < 1:
            raise ConfigError(f"ema.decay is {self.decay}; between 0 and 1, for example 0.999, or null for no average")
        if self.start < 1:
            raise ConfigError(f"ema.start is {self.start}; a step, at least 1")


class WeightAverage(WeightAveraging):
    """Lightning's averaging of weights and buffers, after each step, as a run of ours wants it.

    Validation sees the average. A checkpoint's `state_dict` is the average, which `validate`, `test` and `predict`
    load; `current_model_state` is what training goes on from. A skipped step left the weights as they were, finite,
    and is averaged like any other. Frozen weights are shared with the model, not copied.

    Args:
        config: with a decay.
    """

    def __init__(self, config: EmaConfig) -> None:
        if config.decay is None:
            raise ValueError("WeightAverage without a decay")
        # lerp: weights that do not change come out bit for bit, which decay * w + (1 - decay) * w does not give
        super().__init__(multi_avg_fn=get_ema_multi_avg_fn(config.decay))
        self.start = config.start

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Raises ConfigError where a checkpoint would be saved without asking the callbacks, this one included."""
        saving = [callback for callback in trainer.checkpoint_callbacks if isinstance(callback, ModelCheckpoint)]
        if any(callback.save_weights_only for callback in saving):
            raise ConfigError(
                "checkpoint.save_weights_only with ema.decay: such a checkpoint holds the weights, not their average. "
                "Set checkpoint.save_weights_only: false, or ema.decay: null"
            )
        super().setup(trainer, pl_module, stage)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The model is on its device only now; a resumed run's weights are in both."""
        average_model = self._get_average()
        average_model.to(pl_module.device)
        average_model.n_averaged = average_model.n_averaged.cpu()  # looked at each step, without a wait
        for average, current in zip(average_model.module.parameters(), pl_module.parameters(), strict=True):
            if not current.requires_grad:
                average.data = current.data

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: STEP_OUTPUT, batch: object, batch_idx: int
    ) -> None:
        if trainer.global_step <= self.start:
            self._get_average().n_averaged.zero_()  # then the average is set, not moved
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Outside `fit` there is nothing to do: the checkpoint's `state_dict` is the average."""
        if self._average_model is not None:
            super().on_load_checkpoint(trainer, pl_module, checkpoint)

    def _get_average(self) -> AveragedModel:
        """The average, which Lightning makes in `setup` of `fit`."""
        if self._average_model is None:
            raise RuntimeError("the average of the weights is asked for before `setup` has made it")
        return self._average_model
