"""The command line: LightningCLI with our module, data, callbacks and a run's folder."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from jsonargparse import Namespace, set_parsing_settings
from lightning import Trainer
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, ProgressBar, TQDMProgressBar
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import Logger
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
from stalign_pl.cli.preflight import refuse_fit, refuse_other_sizes, refuse_settings
from stalign_pl.data.datamodule import STAlignData
from stalign_pl.errors import ConfigError
from stalign_pl.runs.changes import find_deciding_changes, refuse_changes, shapes_inputs
from stalign_pl.runs.checkpoint_io import AtomicCheckpointIO
from stalign_pl.runs.config_file import RunConfigFile
from stalign_pl.runs.folder import find_checkpoint, find_resume_point, goes_on, read_config
from stalign_pl.runs.last_checkpoint import LastCheckpoint
from stalign_pl.runs.loggers import MetricsCSV, WandbMode, make_wandb_logger, refuse_wandb
from stalign_pl.runs.preemption import Preemption
from stalign_pl.runs.report import RunReport
from stalign_pl.runs.start import FreshRun, MovedRun
from stalign_pl.runs.writer import RunWriter
from stalign_pl.training.module import STAlignModule


@dataclass(frozen=True)
class RunConfig:
    """The run's folder `<folder>/<name>/`: config.yaml, metrics.csv, results.json, figures, checkpoints, wandb.

    Attributes:
        name: name of the run and of its folder.
        folder: folder of all runs.
        wandb: auto (online if you are logged in, else offline), online, offline or off.
        project: wandb project.
        allow_changes: let a run continue with other settings than it began with.
    """

    name: str = "stalign"
    folder: str = "runs"
    wandb: WandbMode = "auto"
    project: str = "stalign"
    allow_changes: bool = False


class STAlignCLI(LightningCLI):
    """`python -m stalign_pl fit|validate|test|predict --config FILE`."""

    model: STAlignModule
    datamodule: STAlignData

    def __init__(self, args: ArgsType = None) -> None:
        # ${data.spot_size} in a file is replaced by the final value, options of the command line included.
        # A gene panel comes from the data as one object: it is no group of options.
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
                "num_sanity_val_steps": -1,  # the pass before training evaluates the untrained baseline
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
        """Do nothing: Lightning would read hyper-parameters from the checkpoint here; config.yaml has them."""

    @property
    def _options(self) -> Namespace:
        """The options of the subcommand, as parsed."""
        return self.config[str(self.subcommand)]

    def _set_seed(self) -> None:
        seed = self._options.seed_everything
        if not 0 <= seed < 2**32:
            raise ConfigError(f"seed_everything is {seed}; 0 to {2**32 - 1} is wanted")
        super()._set_seed()

    def before_instantiate_classes(self) -> None:
        """Fill in options that follow from others; refuse options that cannot be right."""
        options = self._options
        run = Path(options.run.folder) / options.run.name
        options.trainer.default_root_dir = str(run)
        options.checkpoint.dirpath = str(run / "checkpoints")
        if options.trainer.precision is None:
            bf16 = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
            options.trainer.precision = "bf16-mixed" if bf16 else "32-true"
        refuse_settings(options)
        if options.data.seed is None:  # one seed, unless the data have their own
            options.data.seed = int(options.seed_everything)
        options.weights_only = True  # a checkpoint is data: loading one runs none of its code
        find = find_resume_point if self.subcommand == "fit" else find_checkpoint
        checkpoint = find(options.ckpt_path, run)
        options.ckpt_path = None if checkpoint is None else str(checkpoint)
        if goes_on(checkpoint, run):
            self._compare_settings(run)
        if self.subcommand == "fit" and checkpoint is not None:
            options.trainer.num_sanity_val_steps = 0  # the untrained baseline is evaluated once, when the run begins
        if self.subcommand == "predict":
            options.return_predictions = False  # PredictionWriter writes them

    def _compare_settings(self, run: Path) -> None:
        """Refuse changed settings that decide the numbers of a run that continues; record them if they are allowed."""
        path, changes = run / "config.yaml", []
        if path.exists():
            now = self._parser(self.subcommand).dump(self._options, skip_none=False)
            changes = find_deciding_changes(_resolve(read_config(path)), _resolve(now))
        else:
            _print_once(f"{path} is not there: whether this run goes on with its own settings is not known")
        allowed = self._options.run.allow_changes
        if self.subcommand != "fit":
            changes = [change for change in changes if shapes_inputs(change.key)]
        refuse_changes(changes, allowed, run)
        self.save_config_kwargs |= {"goes_on": True, "changes": changes, "allowed": allowed}

    def instantiate_trainer(self, **kwargs: object) -> Trainer:
        """Build the trainer with our loggers, callbacks and plugins beside those of the configuration."""
        options = self._options
        refuse_other_sizes(self.model.model, self.datamodule)
        if self.subcommand == "fit":
            refuse_fit(options, self.model, self.datamodule)
        run = Path(options.trainer.default_root_dir)
        given, writer = self._get(self.config_init, "trainer"), RunWriter(run)
        begin_logs, resumes = partial(self._make_loggers, run, writer), goes_on(options.ckpt_path, run)
        begins = [FreshRun(run, writer, begin_logs)] if self.subcommand == "fit" and not resumes else []
        records = [writer, Throughput(), DamagedSamples(), DataRecord(), PlanRecord(), RunReport()]
        callbacks = [*begins, *records, *_to_list(given.callbacks), *self._make_own_callbacks(resumes)]
        bars = [callback for callback in callbacks if isinstance(callback, ProgressBar)]
        if options.trainer.enable_progress_bar is not False and not bars:
            callbacks.append(TQDMProgressBar(refresh_rate=5))
        plugins = [AtomicCheckpointIO(writer), *_to_list(given.plugins)]
        if SLURMEnvironment.detect():
            plugins.append(SLURMEnvironment(auto_requeue=False))
        trainer = super().instantiate_trainer(logger=False, callbacks=callbacks, plugins=plugins, **kwargs)
        if self.subcommand == "fit":  # model, data and trainer are built: the configuration is right so far
            self.model.refuse_micro_batch(self.datamodule.composition.batch // trainer.world_size)
            refuse_wandb(options.run.wandb)
            if resumes:
                trainer.loggers = begin_logs()
        return trainer

    def _make_own_callbacks(self, resumes: bool) -> list[Callback]:
        """Build the callbacks that follow from the options and from whether this run continues another."""
        callbacks: list[Callback] = []
        ema = self._get(self.config_init, "ema")
        if ema.decay is not None:
            callbacks.append(WeightAverage(ema))
        if self.subcommand == "fit":
            callbacks.append(Preemption(self._get(self.config_init, "last_checkpoint")))
        if resumes:
            callbacks.append(MovedRun())
        return callbacks

    def _make_loggers(self, run: Path, writer: RunWriter) -> list[Logger]:
        """Build our loggers, in the run's folder, and join those of the configuration to them."""
        run.mkdir(parents=True, exist_ok=True)
        options, given = self._options.run, self._get(self.config_init, "trainer").logger
        ours = [MetricsCSV(run, writer), make_wandb_logger(run, options.wandb, options.project)]
        return [logger for logger in (*ours, *_to_list(given)) if isinstance(logger, Logger)]


def _resolve(config: dict[str, Any] | str) -> dict[str, Any]:
    """Convert a configuration, or its YAML text, to plain values, each ${...} replaced by what it refers to."""
    return cast("dict[str, Any]", OmegaConf.to_object(OmegaConf.create(config)))


@rank_zero_only
def _print_once(line: str) -> None:
    """Print a line in the first process only."""
    print(line)


def _to_list(given: object) -> list[object]:
    """Convert an option that is null, one object or several to a list."""
    if given is None:
        return []
    return list(given) if isinstance(given, list | tuple) else [given]
