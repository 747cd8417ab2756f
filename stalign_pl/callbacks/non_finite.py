"""NonFiniteSteps: a step whose loss or gradient is not finite changes nothing; too many in a row end the run."""

from __future__ import annotations

from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from stalign_pl.batch.features import Features
from stalign_pl.batch.inputs import StepInputs
from stalign_pl.data.trainer import get_data
from stalign_pl.distributed import World, all_gather
from stalign_pl.errors import ConfigError, TrainingError

SLIDES, SPOTS = 3, 4
"""How many slides of a batch a message names, and how many spots of each."""


class NonFiniteSteps(Callback):
    """Skips such a step on every rank, counts it (`train/skipped_steps`), and stops after `limit` in a row.

    Weights, the optimiser's state and BatchNorm's running statistics stay as they were. `global_step` and the schedules
    of learning rate and weight decay go on: they follow the place in the epoch, which has moved by a batch.

    With fp16 the first steps of a run may be skipped while the scale of the loss is sought; they count too.

    Args:
        limit: steps in a row; null never stops.

    Raises:
        ConfigError: a limit below 1.
    """

    def __init__(self, limit: int | None = 10) -> None:
        if limit is not None and limit < 1:
            raise ConfigError(f"non_finite.limit is {limit}; at least 1, or null")
        self.limit = limit
        self.skipped, self.in_a_row, self.first = 0, 0, ""

    def state_dict(self) -> dict[str, Any]:
        return {"skipped": self.skipped, "in_a_row": self.in_a_row, "first": self.first}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.skipped, self.in_a_row = state_dict["skipped"], state_dict["in_a_row"]
        self.first = state_dict["first"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        layers = [layer for layer in pl_module.modules() if isinstance(layer, _BatchNorm) and layer.training]
        self._statistics = [buffer for layer in layers for buffer in layer.buffers(recurse=False)]

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: StepInputs, batch_idx: int
    ) -> None:
        self._batch = batch
        self._wrong = torch.zeros((), dtype=torch.bool, device=pl_module.device)
        self._before = [buffer.clone() for buffer in self._statistics]

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        self._wrong |= ~loss.detach().isfinite()

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """After the backward pass, reduction and unscaling; before clipping.

        The one place where a step waits for the device: the optimiser must not start before the answer is known.
        """
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        wrong = self._wrong | ~torch.nn.utils.get_total_norm(gradients).isfinite()
        if World.current().sum_over_ranks(wrong.float()) == 0:  # every rank takes the step, or none
            self.in_a_row = 0
        else:
            self._skip(trainer, optimizer)
        pl_module.log("train/skipped_steps", float(self.skipped))
        del self._batch

    def _skip(self, trainer: Trainer, optimizer: Optimizer) -> None:
        optimizer.zero_grad(set_to_none=True)  # without gradients the optimiser leaves weights and its state alone
        with torch.no_grad():
            for buffer, before in zip(self._statistics, self._before, strict=True):
                buffer.copy_(before)
        self.skipped += 1
        self.in_a_row += 1
        if self.in_a_row == 1:
            self.first = f"step {trainer.global_step}, epoch {trainer.current_epoch}, with {self._name_rows(trainer)}"
            if trainer.is_global_zero:
                print(f"\nskipped: loss or gradient not finite at {self.first}", flush=True)
        if self.limit is not None and self.in_a_row >= self.limit:
            raise TrainingError(
                f"loss or gradient not finite in {self.in_a_row} steps in a row (non_finite.limit), the first at "
                f"{self.first}. The weights are as before it. Look at these spots; else lower model.optimizer.lr, or "
                f"take trainer.precision 32-true"
            )

    def _name_rows(self, trainer: Trainer) -> str:
        """Some rows of the global batch by slide name and spot; where inputs are not finite, of those alone."""
        ids, shown = self._batch.ids, self._batch.model
        inputs = [
            given.values if isinstance(given, Features) else given
            for given in (shown.spot_image, shown.niche_image, shown.spot_genes, shown.niche_genes)
            if given is not None
        ]
        finite = torch.stack([tensor.flatten(1).isfinite().all(dim=1) for tensor in inputs]).all(dim=0)
        columns = torch.stack((ids.slide, ids.spot, ids.valid.long(), finite.long()), dim=1)
        rows = [row for row in all_gather(columns, World.current()).tolist() if row[2]]
        damaged = [row for row in rows if not row[3]]
        slides: dict[int, list[int]] = {}
        for slide, spot, *_ in damaged or rows:
            slides.setdefault(slide, []).append(spot)
        train_slides = get_data(trainer).train_slides
        named = [f"{train_slides[slide].record.name}: spots {_list(spots, SPOTS)}" for slide, spots in slides.items()]
        kind = "inputs that are not finite" if damaged else "finite inputs"
        return f"{kind} in {'; '.join(named[:SLIDES])}{' and other slides' if len(named) > SLIDES else ''}"


def _list(numbers: list[int], most: int) -> str:
    """The first numbers, and how many more there are."""
    more = f" and {len(numbers) - most} more" if len(numbers) > most else ""
    return ", ".join(map(str, numbers[:most])) + more
