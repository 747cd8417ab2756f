"""The command line: LightningCLI with our module, data, callbacks and a run's folder."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jsonargparse import set_parsing_settings
from lightning.pytorch.callbacks import ModelCheckpoint, ProgressBar, TQDMProgressBar
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins.environments import SLURMEnvironment
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import OmegaConf

from stalign_pl.batch.gene_panel import GenePanel
from stalign_pl.callbacks import (
    DamagedSamples,
    DataRecord,
    EmaConfig,
    GenePredictionCallback,
    NonFiniteSteps,
    PlanRecord,
    PredictionWriter,
    SpatialDomainCallback,
    Throughput,
    WeightAverage,
)
from stalign_pl.data.datamodule import STAlignData
from stalign_pl.errors import ConfigError
from stalign_pl.evaluation.tables import LOWER_IS_BETTER
from stalign_pl.models import draws_from_generator, has_train_mode_batchnorm
from stalign_pl.runs.changes import deciding_changes, refuse_changes, shapes_inputs
from stalign_pl.runs.checkpoint_io import AtomicCheckpointIO
from stalign_pl.runs.config_file import RunConfigFile
from stalign_pl.runs.folder import find_checkpoint, goes_on, read_config, resume_point
from stalign_pl.runs.last_checkpoint import LastCheckpoint
from stalign_pl.runs.loggers import MetricsCSV, WandbMode, refuse_wandb, wandb_logger
from stalign_pl.runs.preemption import Preemption
from stalign_pl.runs.report import RunReport
from stalign_pl.runs.start import FreshRun, MovedRun
from stalign_pl.runs.writer import RunWriter
from stalign_pl.training.module import STAlignModule

EVALUATIONS = (SpatialDomainCallback, GenePredictionCallback)


@dataclass(frozen=True)
class RunConfig:
    """The run's folder `<folder>/<name>/`: config.yaml, metrics.csv, results.json, figures, checkpoints, wandb.

    Attributes:
        name: of the run and of its folder.
        folder: where runs live.
        wandb: auto (online if you are logged in, else offline), online, offline or off.
        project: wandb project.
        allow_changes: a run that goes on may do so with other settings than it began with.
    """

    name: str = "stalign"
    folder: str = "runs"
    wandb: WandbMode = "auto"
    project: str = "stalign"
    allow_changes: bool = False


class STAlignCLI(LightningCLI):
    """`python -m stalign_pl fit|validate|test|predict --config FILE`."""

    def __init__(self, args: ArgsType = None) -> None:
        # A file's ${data.spot_size} stands for what is in force at the end, options of the command line included.
        # A gene panel comes from the data, whole: it is no group of options.
        set_parsing_settings(omegaconf_absolute_to_relative_paths=True, subclasses_enabled=[GenePanel])
        super().__init__(
            STAlignModule,
            STAlignData,
            save_config_callback=RunConfigFile,
            save_config_kwargs={"save_to_log_dir": False},
            auto_configure_optimizers=False,
            seed_everything_default=0,
            trainer_defaults={
                "use_distributed_sampler": False,
                "num_sanity_val_steps": -1,  # the pass before training is the untrained floor
                "precision": None,
                "log_every_n_steps": 5,
            },
            parser_kwargs={"parser_mode": "omegaconf+", "exit_on_error": False},
            args=args,
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_class_arguments(RunConfig, "run")
        parser.add_lightning_class_args(SpatialDomainCallback, "spatial_domains")
        parser.add_lightning_class_args(GenePredictionCallback, "gene_prediction")
        parser.add_lightning_class_args(PredictionWriter, "predictions")
        parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")
        parser.add_lightning_class_args(LastCheckpoint, "last_checkpoint")
        parser.add_lightning_class_args(NonFiniteSteps, "non_finite")
        parser.add_class_arguments(EmaConfig, "ema")
        parser.set_defaults(
            {
                "checkpoint.filename": "best",
                "checkpoint.enable_version_counter": False,
                "checkpoint.save_on_train_epoch_end": None,
            }
        )
        parser.link_arguments("data.gene_panel", "model.model.init_args.genes", apply_on="instantiate")

    def _parse_ckpt_path(self) -> None:
        """Nothing: Lightning would take hyper-parameters from the checkpoint here; config.yaml is the record."""

    @property
    def _options(self):
        return self.config[self.subcommand]

    def _set_seed(self) -> None:
        seed = self._options.seed_everything
        if not 0 <= seed < 2**32:
            raise ConfigError(f"seed_everything is {seed}; 0 to {2**32 - 1} is wanted")
        super()._set_seed()

    def before_instantiate_classes(self) -> None:
        """Derive what the user need not type; refuse what cannot be right."""
        options = self._options
        run = Path(options.run.folder) / options.run.name
        options.trainer.default_root_dir = str(run)
        options.checkpoint.dirpath = str(run / "checkpoints")
        if options.trainer.precision is None:
            bf16 = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
            options.trainer.precision = "bf16-mixed" if bf16 else "32-true"
        self._refuse(options)
        if options.data.seed is None:  # one seed, unless the data are told their own
            options.data.seed = int(options.seed_everything)
        options.weights_only = True  # a checkpoint is data: loading one runs none of its code
        find = resume_point if self.subcommand == "fit" else find_checkpoint
        checkpoint = find(options.ckpt_path, run)
        options.ckpt_path = None if checkpoint is None else str(checkpoint)
        if goes_on(checkpoint, run):
            self._compare_settings(run)
        if self.subcommand == "fit" and checkpoint is not None:
            options.trainer.num_sanity_val_steps = 0  # the pass before training shows the untrained model, once
        if self.subcommand == "predict":
            options.return_predictions = False  # PredictionWriter has them

    def _compare_settings(self, run: Path) -> None:
        """Refuse, or take down, what a run that goes on has changed of what decides its numbers."""
        path, changes = run / "config.yaml", []
        if path.exists():
            now = self._parser(self.subcommand).dump(self._options, skip_none=False)
            old, new = OmegaConf.create(read_config(path)), OmegaConf.create(now)
            changes = deciding_changes(OmegaConf.to_object(old), OmegaConf.to_object(new))
        elif rank_zero_only.rank == 0:
            print(f"{path} is not there: whether this run goes on with its own settings is not known")
        allowed = self._options.run.allow_changes
        if self.subcommand != "fit":
            changes = [change for change in changes if shapes_inputs(change.key)]
        refuse_changes(changes, allowed, run)
        self.save_config_kwargs |= {"goes_on": True, "changes": changes, "allowed": allowed}

    @staticmethod
    def _refuse(options) -> None:
        """What would only show later: a loss that is not the one asked for, a figure that is never logged."""
        if (options.trainer.accumulate_grad_batches or 1) != 1:
            raise ConfigError(
                f"trainer.accumulate_grad_batches is {options.trainer.accumulate_grad_batches}: accumulating batches "
                f"does not enlarge the pool of negatives, so it is not the loss of the larger batch. Leave it at 1, "
                f"set data.composition to the batch you want and model.micro_batch to the rows that fit the device"
            )
        if not options.run.name.strip("./ "):
            raise ConfigError(f"run.name is {options.run.name!r}; it names the run's folder in {options.run.folder}")
        if options.checkpoint.monitor is not None:
            STAlignCLI._refuse_monitor(options.checkpoint.monitor, options.checkpoint.mode)

    @staticmethod
    def _refuse_monitor(monitor: str, mode: str) -> None:
        """A figure that there is not, or a direction that would keep the worst checkpoint."""
        if monitor.startswith("train/"):
            return
        known = {f"val/{name}": metric for callback in EVALUATIONS for metric, name in callback.logged.items()}
        metrics = [metric for figure, metric in known.items() if monitor == figure or monitor.startswith(f"{figure}/")]
        if not metrics:
            raise ConfigError(f"checkpoint.monitor is {monitor!r}; known: {', '.join(known)}, and train/...")
        better = "min" if metrics[0] in LOWER_IS_BETTER else "max"
        if mode != better:
            raise ConfigError(
                f"checkpoint.monitor is {monitor} and checkpoint.mode is {mode}, which would keep the worst checkpoint "
                f"as best. Set checkpoint.mode: {better}"
            )

    def instantiate_trainer(self, **kwargs):
        """Add the loggers and the callbacks that no configuration names."""
        options = self._options
        self._refuse_inexact(options)
        self._refuse_without_clusters()
        self._refuse_other_sizes()
        if self.subcommand == "fit":
            self._refuse_absent_figure(options.checkpoint.monitor or "")
        run = Path(options.trainer.default_root_dir)
        given, writer = self._get(self.config_init, "trainer"), RunWriter(run)
        begin_logs, resumes = partial(self._loggers, run, writer), goes_on(options.ckpt_path, run)
        extra: dict[str, Any] = {
            "logger": False,
            "callbacks": [
                *([FreshRun(run, writer, begin_logs)] if self.subcommand == "fit" and not resumes else []),
                *(writer, Throughput(), DamagedSamples(), DataRecord(), PlanRecord(), RunReport()),
                *_listed(given.callbacks),
            ],
            "plugins": [AtomicCheckpointIO(writer), *_listed(given.plugins)],
        }
        ema = self._get(self.config_init, "ema")
        if ema.decay is not None:
            extra["callbacks"].append(WeightAverage(ema))
        if self.subcommand == "fit":
            extra["callbacks"].append(Preemption(self._get(self.config_init, "last_checkpoint")))
        if resumes:
            extra["callbacks"].append(MovedRun())
        bars = [callback for callback in extra["callbacks"] if isinstance(callback, ProgressBar)]
        if options.trainer.enable_progress_bar is not False and not bars:
            extra["callbacks"].append(TQDMProgressBar(refresh_rate=5))
        if SLURMEnvironment.detect():
            extra["plugins"].append(SLURMEnvironment(auto_requeue=False))
        trainer = super().instantiate_trainer(**extra, **kwargs)
        if self.subcommand == "fit":  # model, data and trainer exist: what is left to go wrong is not the configuration
            self.model.refuse_micro_batch(self.datamodule.composition.batch // trainer.world_size)
            refuse_wandb(options.run.wandb)
            if resumes:
                trainer.loggers = begin_logs()
        return trainer

    def _loggers(self, run: Path, writer: RunWriter) -> list[Logger]:
        """Ours and the configuration's, in the run's folder."""
        run.mkdir(parents=True, exist_ok=True)
        options, given = self._options.run, self._get(self.config_init, "trainer").logger
        ours = [MetricsCSV(run, writer), wandb_logger(run, options.wandb, options.project)]
        return [logger for logger in (*ours, *_listed(given)) if isinstance(logger, Logger)]

    def _refuse_absent_figure(self, monitor: str) -> None:
        """Else the first validation says so: no checkpoint is chosen by what is never logged."""
        has = self.model.model.has
        for figures, wanted, there in (
            (SpatialDomainCallback.logged, "fused niche embedding", has("niche")),
            (GenePredictionCallback.logged, "image embedding", has("spot_image") or has("niche_image")),
        ):
            if not there and monitor.startswith(tuple(f"val/{name}" for name in figures.values())):
                raise ConfigError(
                    f"checkpoint.monitor is {monitor!r}, which is scored on the {wanted}, and model.model has none. "
                    f"Set it to another figure or to train/loss, or to null with checkpoint.save_top_k: 0"
                )

    def _refuse_other_sizes(self) -> None:
        """Else the first batch says so, of a picture."""
        for scale in ("spot", "niche"):
            encoder, size = getattr(self.model.model, f"{scale}_image"), getattr(self.datamodule, f"{scale}_size")
            if encoder is not None and encoder.size != size:
                raise ConfigError(
                    f"data.{scale}_size is {size}, and the model's {scale}_image takes pictures of {encoder.size} px "
                    f"(its argument size): make them the same"
                )

    def _refuse_without_clusters(self) -> None:
        """Else the first training batch says so, after a pass of evaluation."""
        if self.subcommand == "fit" and self.model.objective.needs_clusters and self.datamodule.clusters is None:
            raise ConfigError(
                f"data.clusters is null, and {type(self.model.objective).__name__} draws its negatives by clusters. "
                f"Make the table: python -m stalign_pl clusters {self.datamodule.shard_set.folder} --out FILE"
            )

    def _refuse_inexact(self, options) -> None:
        """`deterministic` asks for the same numbers on any number of processes.

        BatchNorm in training has others, and so has what draws from a process's own generator.
        """
        if self.subcommand != "fit" or not options.trainer.deterministic:
            return
        if not options.trainer.sync_batchnorm:
            streams = [name for name, part in self.model.model.named_children() if has_train_mode_batchnorm(part)]
            if streams:
                raise ConfigError(
                    f"trainer.deterministic with BatchNorm in train mode in model.model.{', '.join(streams)}: it "
                    f"normalises by each process's own rows. Take an encoder with GroupNorm or LayerNorm, or freeze it"
                )
        drawing = [name for name, part in self.model.model.named_children() if draws_from_generator(part)]
        if drawing:
            raise ConfigError(
                f"trainer.deterministic with dropout or stochastic depth in model.model.{', '.join(drawing)} that "
                f"draws from each process's own generator. Set its rate to 0 (model_args: drop_rate, drop_path_rate), "
                f"or take stalign_pl.models.SpotDropout, which draws by spot"
            )


def _listed(given: Any) -> list[Any]:
    """What a configuration has as null, one or several, as a list."""
    if given is None:
        return []
    return list(given) if isinstance(given, list | tuple) else [given]
