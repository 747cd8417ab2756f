"""The LightningModule: optimiser, schedules, logging. The science is in the model and the objective it is given."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from lightning import LightningModule
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor

from stalign_pl.batch.embeddings import Embeddings
from stalign_pl.batch.inputs import StepInputs
from stalign_pl.batch.row_keys import RowKeys
from stalign_pl.data.datamodule import STAlignData
from stalign_pl.data.reading.loader import BatchLoader
from stalign_pl.data.trainer import get_data
from stalign_pl.errors import ConfigError
from stalign_pl.models import STAlign, find_cacheable_streams, fingerprint_encoder, keyed_dropout
from stalign_pl.objectives import GeneRegression, RegressionConfig, ThreeLevelObjective
from stalign_pl.objectives.three_level import LossTerms
from stalign_pl.training.checkpoint_weights import CURRENT, fill_in_frozen, leave_out_frozen
from stalign_pl.training.evaluation_step import EvaluatedBatch, EvaluationStep, embed_batch
from stalign_pl.training.execution import Execution, apply_execution
from stalign_pl.training.micro_batches import compute_loss_by_parts, split_rows
from stalign_pl.training.model_checks import refuse_batchnorm, refuse_lacking_embeddings, refuse_other_encoders
from stalign_pl.training.optimizer import (
    OptimizerConfig,
    choose_fused,
    compute_learning_rate,
    compute_weight_decay,
    make_adamw,
)


class STAlignModule(LightningModule):
    """Trains `model` on `objective`.

    Args:
        model: up to four streams and two fusions; parts that no loss reaches are not trained.
        objective: embeddings and ids -> loss terms, over the global batch.
        optimizer: AdamW and its schedules.
        micro_batch: rows that pass through the model at once, in each process; null takes all rows that a process has
            of a global batch. Loss, negatives and gradient stay those of the global batch; each step runs the forward
            pass twice.
        execution: compiled or not, and the memory format.
        regression: gene regression beside the contrasts; off unless a weight is above 0.

    Raises:
        ConfigError: a level of the objective, or a regression, needs an embedding that the model lacks.
    """

    def __init__(
        self,
        model: STAlign,
        objective: ThreeLevelObjective,
        optimizer: OptimizerConfig = OptimizerConfig(),  # noqa: B008 (frozen)
        micro_batch: int | None = None,
        execution: Execution = Execution(),  # noqa: B008
        regression: RegressionConfig = RegressionConfig(),  # noqa: B008
    ) -> None:
        super().__init__()
        apply_execution(model, execution)
        self.model, self.objective, self.optimizer_config = model, objective, optimizer
        self.regression = GeneRegression(regression, model.genes, model.widths)
        self.micro_batch = micro_batch
        refuse_lacking_embeddings(model, objective)
        self._embeddings = (*objective.embeddings, *self.regression.embeddings)
        self.untrained_parts = model.learn_only(self._embeddings)
        self._as_built: tuple[STAlign, ...] = ()
        self._cached_streams: tuple[str, ...] = ()
        self._replay_checked = False
        self._loaded_step = 0
        self._keys: RowKeys | None = None

    @property
    def _data(self) -> STAlignData:
        return get_data(self.trainer)

    def training_step(self, inputs: StepInputs, batch_idx: int) -> Tensor:
        self.zero_grad()
        parts = split_rows(len(inputs.ids), self.micro_batch)
        if len(parts) == 1:
            terms = self._loss(self._embed(inputs, parts[0]), inputs)
        else:
            terms = self._loss_by_parts(inputs, parts)
        # All terms are of the global batch, the same on every rank: nothing to reduce.
        self.log("train/loss", terms.total.detach(), prog_bar=True)
        self.log_dict({f"train/loss_{level}": getattr(terms, level) for level in self.objective.levels})
        self.log_dict({f"train/{name}": value for name, value in terms.diagnostics.items()})
        return terms.total

    def _loss(self, embeddings: Embeddings, inputs: StepInputs) -> LossTerms:
        terms = self.objective(embeddings, inputs.ids)
        return self.regression(terms, embeddings, inputs.targets, inputs.ids.valid)

    def _embed(self, inputs: StepInputs, rows: slice) -> Embeddings:
        """Embed rows of a training batch.

        With `trainer.deterministic`, dropout is drawn by spot, the same on any number of processes. Otherwise it is
        drawn by the generator, which is seeded by step and rank: a resumed run draws the same, another number of
        processes does not.
        """
        self._keys = None
        if torch.are_deterministic_algorithms_enabled():
            self._keys = RowKeys(self._seed, self.current_epoch, inputs.ids.slide[rows], inputs.ids.spot[rows])
        with keyed_dropout(self.model, self._keys):
            return self.model(inputs.model[rows], self._embeddings)

    def backward(self, loss: Tensor) -> None:
        """Propagate the loss back. Gradient checkpointing runs the forward pass of the last `_embed`'s rows again."""
        with keyed_dropout(self.model, self._keys):
            loss.backward()

    def _loss_by_parts(self, inputs: StepInputs, parts: list[slice]) -> LossTerms:
        """Compute the global batch's loss in micro-batches, inside automatic optimisation.

        Automatic, because Lightning then keeps its own handling of everything around a step: clipping (refused in
        manual optimisation), the scaler, the schedule, and `global_step`, which counts one optimiser step a batch, and
        which checkpoints and the loader's position rely on. The backward passes of all parts but the last run here,
        inside DDP's forward: its reducer waits for gradients only after that (`no_sync` has the same effect). Lightning
        runs the backward pass of the last part and of the temperature on the loss returned, and DDP reduces the sums
        once.
        """
        strategy, device = self.trainer.strategy, self.device.type

        def backward(share: Tensor) -> None:
            with torch.autocast(device, enabled=False):
                strategy.backward(share, None)  # as `manual_backward` does: with the scaler of mixed precision

        check, self._replay_checked = not self._replay_checked, True
        return compute_loss_by_parts(
            lambda rows: self._embed(inputs, rows),
            lambda embeddings: self._loss(embeddings, inputs),
            [*self.objective.parameters(), *self.regression.parameters()],
            parts,
            backward,
            check,
        )

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: torch.optim.Optimizer) -> None:
        """Do nothing: Lightning calls this after `training_step`, which zeroes gradients and may then add to them."""

    def refuse_micro_batch(self, rows: int) -> None:
        """Raise ConfigError if `rows` rows in each process cannot be trained in micro-batches."""
        if len(split_rows(rows, self.micro_batch)) > 1:
            refuse_batchnorm(self.model, self.micro_batch)

    def setup(self, stage: str) -> None:
        """Open the frozen encoders' cached features, if any.

        Outside `fit`, also copy the model as built, the untrained baseline: checkpoints are loaded after this.
        """
        if self._data.features is not None:
            streams = find_cacheable_streams(self.model)
            cache = self._data.open_features({name: fingerprint_encoder(of) for name, of in streams.items()})
            self._cached_streams = tuple(cache.views)
            for line in cache.describe() if self.trainer.is_global_zero else ():
                print(line)
        if stage in ("test", "validate"):
            # In a tuple, so that it is not a submodule: not in the state dict, not wrapped by DDP.
            self._as_built = (copy.deepcopy(self.model).eval(),)

    def validation_step(self, inputs: StepInputs, batch_idx: int) -> EvaluationStep:
        """Embed a batch by the model; before training (the sanity pass) it *is* the untrained baseline."""
        if self.trainer.sanity_checking:
            return EvaluationStep(None, embed_batch(self.model, inputs, features=True))
        if self._as_built:
            return self.test_step(inputs, batch_idx)
        return EvaluationStep(embed_batch(self.model, inputs, features=False), None)

    def test_step(self, inputs: StepInputs, batch_idx: int) -> EvaluationStep:
        """Embed a batch by the model and by the untrained baseline."""
        as_built = self._as_built[0].to(self.device)
        untrained = embed_batch(as_built, inputs, features=True)
        return EvaluationStep(embed_batch(self.model, inputs, features=False), untrained)

    def predict_step(self, inputs: StepInputs, batch_idx: int) -> EvaluatedBatch:
        return embed_batch(self.model, inputs, features=False)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        trainer, batch = self.trainer, self._data.composition.batch
        asked = self.optimizer_config
        config = asked.for_batch(batch)
        if config is not asked and trainer.is_global_zero:
            print(f"learning rate: {config.lr:g} at its peak, {asked.lr:g} x {batch} / {asked.reference_batch} spots")
        fused = choose_fused(config.fused, self.device, trainer.precision_plugin, bool(trainer.gradient_clip_val))
        optimizer, steps = make_adamw(self, config, fused), self._steps()
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: compute_learning_rate(config, step, steps) / config.lr
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _steps(self) -> int:
        """Count the optimiser steps of the whole run.

        Not by `trainer.estimated_stepping_batches`: that opens the training loader before a checkpoint's loops are
        restored, and Lightning then never restores the loader's position in the epoch.

        Raises:
            ConfigError: neither max_epochs nor max_steps is set.
        """
        trainer, batches = self.trainer, self._data.batches_per_epoch
        limit = trainer.limit_train_batches
        batches = min(limit, batches) if isinstance(limit, int) else int(limit * batches)
        ends = [steps for steps in (trainer.max_steps, batches * (trainer.max_epochs or -1)) if steps > 0]
        if not ends:
            raise ConfigError("the schedules need an end: set trainer.max_epochs or trainer.max_steps")
        return min(ends)

    def on_fit_start(self) -> None:
        self._seed = torch.initial_seed()
        if self.untrained_parts and self.global_rank == 0:
            print(f"no loss reaches model.model.{', '.join(self.untrained_parts)}: they stay as they are")
        self.refuse_micro_batch(self._data.composition.batch // self.trainer.world_size)

    def on_train_batch_start(self, batch: StepInputs, batch_idx: int) -> None:
        loader = self.trainer.train_dataloader
        assert isinstance(loader, BatchLoader)
        assert loader.position == batch_idx + 1, "the loader is not where the training loop is"
        # No checkpoint holds the generator's state: seeded by the step, it draws the same in a resumed run.
        torch.manual_seed(_mix_seed(self._seed, self.global_step, self.global_rank))
        decay = compute_weight_decay(self.optimizer_config, self.global_step, self._steps())
        (optimizer,) = self.trainer.optimizers
        groups = optimizer.param_groups
        for group in groups:
            if group["decays"]:
                group["weight_decay"] = decay
        self.log_dict({"train/weight_decay": decay, "train/lr": groups[0]["lr"]})

    @property
    def step_of_weights(self) -> int:
        """The training step that the weights come from."""
        return self.trainer.global_step if self.trainer.state.fn == TrainerFn.FITTING else self._loaded_step

    @property
    def _frozen(self) -> tuple[str, ...]:
        """Prefixes of the keys left out of every checkpoint: frozen encoders are built from their own source."""
        return tuple(f"model.{prefix}" for prefix in self.model.frozen_prefixes)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        leave_out_frozen(checkpoint, self._frozen)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Fill the frozen weights back in from the encoders, so that loading stays strict about all others.

        If the checkpoint has averaged weights and training continues without averaging, it continues from the weights
        that were averaged.

        Raises:
            ConfigError: the checkpoint is of another vocabulary or of another model.
        """
        data = self._data
        data.load_state_dict(checkpoint[type(data).__qualname__])
        fill_in_frozen(checkpoint, self._frozen, self.state_dict())
        self._loaded_step = checkpoint["global_step"]
        refuse_other_encoders(self.model, self._cached_streams, checkpoint["state_dict"])
        callbacks = self.trainer.callbacks  # pyright: ignore[reportAttributeAccessIssue] # set, and not declared
        averaging = any(isinstance(callback, WeightAveraging) for callback in callbacks)
        if self.trainer.state.fn == TrainerFn.FITTING and not averaging:
            checkpoint["state_dict"] = checkpoint.get(CURRENT, checkpoint["state_dict"])


def _mix_seed(*numbers: int) -> int:
    """Make one seed of several numbers, so that steps and ranks do not share one."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])
