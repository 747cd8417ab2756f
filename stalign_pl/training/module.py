"""The LightningModule: optimiser, schedules, logging. No science: the model and the objective are given."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from lightning import LightningModule
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from stalign_pl.batch.embeddings import Embeddings
from stalign_pl.batch.inputs import StepInputs
from stalign_pl.batch.row_keys import RowKeys
from stalign_pl.errors import ConfigError
from stalign_pl.models import (
    STAlign,
    cacheable_streams,
    encoder_tensors,
    fingerprint,
    has_train_mode_batchnorm,
    keyed_dropout,
)
from stalign_pl.objectives import GeneRegression, RegressionConfig, ThreeLevelObjective
from stalign_pl.objectives.three_level import CONTRASTS, LossTerms
from stalign_pl.training.checkpoint_weights import CURRENT, fill_in, leave_out
from stalign_pl.training.evaluation_step import Evaluated, EvaluationStep, evaluated
from stalign_pl.training.execution import Execution, prepare
from stalign_pl.training.micro_batches import loss_by_parts, micro_batches
from stalign_pl.training.optimizer import OptimizerConfig, adamw, learning_rate, takes_fused, weight_decay


class STAlignModule(LightningModule):
    """Trains `model` on `objective`.

    Args:
        model: up to four streams and two fusions; parts that the objective does not reach stay as they are.
        objective: embeddings and ids -> loss terms, over the global batch.
        optimizer: AdamW and its schedules.
        micro_batch: rows that pass through the model at once, a process; null takes all that a process has of a global
            batch. Loss, negatives and gradient are those of the global batch all the same; a step does the forward
            pass twice.
        execution: compiled or not, and the memory format.
        regression: gene regression beside the contrasts; off unless a weight is above 0.

    Raises:
        ConfigError: a level of the objective, or a regression, needs an embedding that the model has not.
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
        prepare(model, execution)
        self.model, self.objective, self.optimizer_config = model, objective, optimizer
        self.regression = GeneRegression(regression, model.genes, model.widths)
        self.micro_batch = micro_batch
        _refuse_absent(model, objective)
        self._embeddings = (*objective.embeddings, *self.regression.embeddings)
        self.untrained_parts = model.learn_only(self._embeddings)
        self._as_built: tuple[STAlign, ...] = ()
        self._cached: tuple[str, ...] = ()
        self._replay_checked = False
        self._loaded_step = 0
        self._keys: RowKeys | None = None

    def training_step(self, inputs: StepInputs, batch_idx: int) -> Tensor:
        self.zero_grad()
        parts = micro_batches(len(inputs.ids), self.micro_batch)
        if len(parts) == 1:
            terms = self._loss(self._embed(inputs, parts[0]), inputs)
        else:
            terms = self._loss_by_parts(inputs, parts)
        # All terms are those of the global batch, the same on every rank: nothing to reduce.
        self.log("train/loss", terms.total.detach(), prog_bar=True)
        self.log_dict({f"train/loss_{level}": getattr(terms, level) for level in self.objective.levels})
        self.log_dict({f"train/{name}": value for name, value in terms.diagnostics.items()})
        return terms.total

    def _loss(self, embeddings: Embeddings, inputs: StepInputs) -> LossTerms:
        terms = self.objective(embeddings, inputs.ids)
        return self.regression(terms, embeddings, inputs.targets, inputs.ids.valid)

    def _embed(self, inputs: StepInputs, rows: slice) -> Embeddings:
        """Embed rows of a training batch.

        Where the run asks for exactness, dropout is drawn by spot: else by the generator, which is seeded a step and
        rank, so that a resumed run draws alike and another number of processes does not.
        """
        self._keys = None
        if torch.are_deterministic_algorithms_enabled():
            self._keys = RowKeys(self._seed, self.current_epoch, inputs.ids.slide[rows], inputs.ids.spot[rows])
        with keyed_dropout(self.model, self._keys):
            return self.model(inputs.model[rows], self._embeddings)

    def backward(self, loss: Tensor) -> None:
        """Gradient checkpointing passes forward again in here: the rows are those of the last `_embed`."""
        with keyed_dropout(self.model, self._keys):
            loss.backward()

    def _loss_by_parts(self, inputs: StepInputs, parts: list[slice]) -> LossTerms:
        """The global batch's loss in micro-batches, inside automatic optimisation.

        Automatic, because then everything around a step stays Lightning's own: clipping (refused in manual
        optimisation), the scaler, the schedule, and `global_step`, which counts the one optimiser step a batch that
        checkpoints and the loader's position go by. All parts but the last are gone through here, inside DDP's
        forward: its reducer awaits gradients only from the end of that on (this is what `no_sync` brings about, too).
        The last part's backward pass, and the temperature's, is Lightning's own on what is returned: DDP reduces the
        sums once.
        """
        strategy, device = self.trainer.strategy, self.device.type

        def backward(share: Tensor) -> None:
            with torch.autocast(device, enabled=False):
                strategy.backward(share, None)  # as `manual_backward` does: with the scaler of mixed precision

        check, self._replay_checked = not self._replay_checked, True
        return loss_by_parts(
            lambda rows: self._embed(inputs, rows),
            lambda embeddings: self._loss(embeddings, inputs),
            [*self.objective.parameters(), *self.regression.parameters()],
            parts,
            backward,
            check,
        )

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: torch.optim.Optimizer) -> None:
        """Nothing: Lightning calls this after `training_step`, which may have summed gradients, and began at zero."""

    def refuse_micro_batch(self, rows: int) -> None:
        """Raises ConfigError where `rows` a process cannot be trained in micro-batches."""
        if len(micro_batches(rows, self.micro_batch)) == 1:
            return
        streams = [name for name, part in self.model.named_children() if has_train_mode_batchnorm(part, True)]
        if streams:
            raise ConfigError(
                f"model.micro_batch is {self.micro_batch}, with BatchNorm in train mode in model.model."
                f"{', '.join(streams)}: it would normalise by each micro-batch's rows, not by those of the batch. Take "
                f"an encoder with GroupNorm or LayerNorm, freeze it, or set model.micro_batch: null"
            )

    def setup(self, stage: str) -> None:
        """Open the frozen encoders' cached features, if any.

        Outside `fit` keep a copy of the weights as built: checkpoints are loaded after this, the floor stays.
        """
        if self.trainer.datamodule.features is not None:
            streams = cacheable_streams(self.model)
            cache = self.trainer.datamodule.open_features({name: fingerprint(of) for name, of in streams.items()})
            self._cached = tuple(cache.views)
            for line in cache.described() if self.trainer.is_global_zero else ():
                print(line)
        if stage in ("test", "validate"):
            # In a tuple, so that it is no submodule: not in the state dict, not wrapped by DDP.
            self._as_built = (copy.deepcopy(self.model).eval(),)

    def validation_step(self, inputs: StepInputs, batch_idx: int) -> EvaluationStep:
        """Before training (the sanity pass, over everything) the model *is* the untrained floor."""
        if self.trainer.sanity_checking:
            return EvaluationStep(None, evaluated(self.model, inputs, features=True))
        if self._as_built:
            return self.test_step(inputs, batch_idx)
        return EvaluationStep(evaluated(self.model, inputs, features=False), None)

    def test_step(self, inputs: StepInputs, batch_idx: int) -> EvaluationStep:
        as_built = self._as_built[0].to(self.device)
        untrained = evaluated(as_built, inputs, features=True)
        return EvaluationStep(evaluated(self.model, inputs, features=False), untrained)

    def predict_step(self, inputs: StepInputs, batch_idx: int) -> Evaluated:
        return evaluated(self.model, inputs, features=False)

    def configure_optimizers(self) -> dict[str, Any]:
        trainer, batch = self.trainer, self.trainer.datamodule.composition.batch
        asked = self.optimizer_config
        config = asked.for_batch(batch)
        if config is not asked and trainer.is_global_zero:
            print(f"learning rate: {config.lr:g} at its peak, {asked.lr:g} x {batch} / {asked.reference_batch} spots")
        fused = takes_fused(config.fused, self.device, trainer.precision_plugin, bool(trainer.gradient_clip_val))
        optimizer, steps = adamw(self, config, fused), self._steps()
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: learning_rate(config, step, steps) / config.lr
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _steps(self) -> int:
        """Steps of the whole run.

        Not by `trainer.estimated_stepping_batches`: that opens the training loader before a checkpoint's loops are
        restored, and Lightning then never hands the loader its place in the epoch.
        """
        trainer, batches = self.trainer, self.trainer.datamodule.batches_per_epoch
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
        self.refuse_micro_batch(self.trainer.datamodule.composition.batch // self.trainer.world_size)

    def on_train_batch_start(self, batch: StepInputs, batch_idx: int) -> None:
        assert self.trainer.train_dataloader.position == batch_idx + 1, "the loader is not where the training loop is"
        # Draws from a generator whose state no checkpoint holds: seeded by the step, a resumed run draws alike.
        torch.manual_seed(_mixed(self._seed, self.global_step, self.global_rank))
        decay = weight_decay(self.optimizer_config, self.global_step, self._steps())
        groups = self.optimizers().param_groups
        for group in groups:
            if group["decays"]:
                group["weight_decay"] = decay
        self.log_dict({"train/weight_decay": decay, "train/lr": groups[0]["lr"]})

    @property
    def step_of_weights(self) -> int:
        """The step of training that the weights are of."""
        return self.trainer.global_step if self.trainer.state.fn == TrainerFn.FITTING else self._loaded_step

    @property
    def _frozen(self) -> tuple[str, ...]:
        """Prefixes of the keys that stay out of every checkpoint: frozen encoders have a source of their own."""
        return tuple(f"model.{prefix}" for prefix in self.model.frozen_prefixes)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        leave_out(checkpoint, self._frozen)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Fill the frozen weights back in from the encoders, so that loading stays strict about all others.

        Where training goes on without the average that the checkpoint was made with, it goes on from the weights.

        Raises:
            ConfigError: the checkpoint is of another vocabulary or of another model.
        """
        self.trainer.datamodule.load_state_dict(checkpoint[type(self.trainer.datamodule).__qualname__])
        fill_in(checkpoint, self._frozen, self.state_dict())
        self._loaded_step = checkpoint["global_step"]
        self._refuse_other_encoders(checkpoint["state_dict"])
        averaging = any(isinstance(callback, WeightAveraging) for callback in self.trainer.callbacks)
        if self.trainer.state.fn == TrainerFn.FITTING and not averaging:
            checkpoint["state_dict"] = checkpoint.get(CURRENT, checkpoint["state_dict"])

    def _refuse_other_encoders(self, weights: Mapping[str, Tensor]) -> None:
        """Cached features belong to the encoders as built; random ones of another run have other weights."""
        for stream in self._cached:
            ours = encoder_tensors(getattr(self.model, stream))
            if any(not torch.equal(weights[f"model.{stream}.{key}"].cpu(), ours[key].cpu()) for key in ours):
                raise ConfigError(
                    f"data.features holds what the frozen encoder of {stream} says as this configuration builds it, "
                    f"and the checkpoint has other weights in it. Set data.features: null, or give the "
                    f"seed_everything and the weights that the checkpoint was trained with"
                )


def _refuse_absent(model: STAlign, objective: ThreeLevelObjective) -> None:
    for level in objective.levels:
        absent = [name for name in CONTRASTS[level] if not model.has(name)]
        if absent:
            mend = {
                "cross": "set objective.spot_weight and niche_weight to add up to 1",
                "spot": "set objective.spot_weight to 0",
                "niche": "set objective.niche_weight to 0",
            }[level]
            raise ConfigError(
                f"model.objective: the {level} loss contrasts {' with '.join(CONTRASTS[level])}, and the model has no "
                f"{' and no '.join(absent)} embedding (model.model: a stream or the fusion is null); {mend}"
            )


def _mixed(*numbers: int) -> int:
    """One seed from several numbers, such that no two steps or ranks share one."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])
