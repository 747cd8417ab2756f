"""Which settings a run that goes on may have changed: those that cannot change its numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from stalign_pl.errors import ConfigError

FREE = (
    "ckpt_path",
    "weights_only",
    "run",
    "last_checkpoint",
    "predictions",
    "non_finite.limit",
    "checkpoint.auto_insert_metric_name",
    "checkpoint.dirpath",
    "checkpoint.enable_version_counter",
    "checkpoint.filename",
    "checkpoint.verbose",
    "data.bad_samples",
    "data.clusters",
    "data.features",
    "data.shards",
    "data.stage_keep",
    "data.stage_to",
    "data.threads",
    "data.verify",
    "model.execution",
    "model.micro_batch",
    "model.optimizer.fused",
)
"""Keys, with all below them, that decide where and how fast, not what. Every other one decides.

The contents of `data.shards` and `data.clusters` do: the checkpoint has their digest (`STAlignData.state_dict`), and
so has the number of views that `data.features` puts in place of augmentation. The features themselves decide nothing:
they are what the encoder would say, or they are refused.
"""

INPUTS = (
    "data.genes",
    "data.niche",
    "data.niche_interpolation",
    "data.niche_size",
    "data.spot_interpolation",
    "data.spot_size",
    "data.stain",
    "model.model",
)
"""Keys, with all below them, of what the model is and sees."""

TRAINER_DECIDES = (
    "accumulate_grad_batches",
    "callbacks",
    "check_val_every_n_epoch",
    "deterministic",
    "fast_dev_run",
    "gradient_clip_algorithm",
    "gradient_clip_val",
    "limit_train_batches",
    "limit_val_batches",
    "max_epochs",
    "max_steps",
    "min_epochs",
    "min_steps",
    "overfit_batches",
    "plugins",
    "precision",
    "reload_dataloaders_every_n_epochs",
    "sync_batchnorm",
    "use_distributed_sampler",
    "val_check_interval",
)
"""Of the trainer's own keys, those that decide. `max_epochs` and `max_steps` are the length of the schedules."""


@dataclass(frozen=True)
class Change:
    """A setting that decides the result, and is not what the run began with.

    Attributes:
        key: dotted.
        old: what it was; null where it was not set.
        new: what it is; null where it is not set.
    """

    key: str
    old: object
    new: object

    def __str__(self) -> str:
        return f"{self.key} was {self.old!r}, is {self.new!r}"


def find_deciding_changes(old: Mapping[str, object], new: Mapping[str, object]) -> list[Change]:
    """What differs between two resolved configurations of `fit` and decides a run's numbers, by key.

    A key that is absent and one that is null are the same.
    """
    before, after = dict(_flatten(old)), dict(_flatten(new))
    changed = [Change(key, before.get(key), after.get(key)) for key in sorted(before.keys() | after.keys())]
    return [change for change in changed if change.old != change.new and _decides(change.key)]


def _flatten(config: Mapping[str, object], above: str = "") -> Iterator[tuple[str, object]]:
    """Dotted keys and values; a list is a value, and so is an empty mapping, which is null."""
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


def _decides(key: str) -> bool:
    """Whether a setting decides a run's numbers."""
    if key.startswith("trainer."):
        return key.split(".")[1] in TRAINER_DECIDES
    return not any(key == free or key.startswith(f"{free}.") for free in FREE)


def shapes_inputs(key: str) -> bool:
    """Whether a setting decides what a trained model is or is shown, and so must be in `test` what it was in `fit`."""
    return any(key == own or key.startswith(f"{own}.") for own in INPUTS)


def refuse_changes(changes: list[Change], allowed: bool, run: Path) -> None:
    """Raises ConfigError, with all of them, unless they are allowed."""
    if changes and not allowed:
        raise ConfigError(
            f"the run in {run} began with other settings: {'; '.join(map(str, changes))}. Go on with its own, give the "
            f"new ones another run.name, or take them over in this run: run.allow_changes: true"
        )
