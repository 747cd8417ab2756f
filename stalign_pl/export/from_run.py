"""Read a finished run from its folder: its model with a checkpoint's weights, its data, its results."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser

from stalign_pl.data.datamodule import STAlignData
from stalign_pl.data.pictures.colour import SlideColour
from stalign_pl.errors import ConfigError
from stalign_pl.evaluation.results import Row, read_results
from stalign_pl.export.architecture import Architecture
from stalign_pl.export.preparation import Preparation
from stalign_pl.models import STAlign
from stalign_pl.models.weights import load_tensors
from stalign_pl.runs.checkpoint_io import AtomicCheckpointIO
from stalign_pl.runs.folder import find_checkpoint, read_config
from stalign_pl.runs.results import read_result_steps
from stalign_pl.training.checkpoint_weights import CURRENT

OF_MODEL = "model."
"""Prefix of the model's keys in the LightningModule's state dict."""


@dataclass(frozen=True)
class FinishedRun:
    """A finished run.

    Attributes:
        folder: of the run.
        config: content of config.yaml, resolved.
        checkpoint: path of the weights.
        step: training step of the weights.
        averaged: whether they are an exponential average.
        architecture: of the model.
        model: with these weights, in eval mode.
        data: as in the run.
    """

    folder: Path
    config: dict[str, Any]
    checkpoint: Path
    step: int
    averaged: bool
    architecture: Architecture
    model: STAlign
    data: STAlignData

    @property
    def name(self) -> str:
        """The run's name."""
        return self.config["run"]["name"]

    @property
    def config_sha256(self) -> str:
        """Hash of config.yaml's bytes."""
        return hashlib.sha256((self.folder / "config.yaml").read_bytes()).hexdigest()

    @cached_property
    def preparation(self) -> Preparation:
        """Preparation of the model's input."""
        data = self.data
        records = [slide.record for slide in data.train_slides.values()]
        mean, sd = data.slide_tables.common_colour.unbind(dim=1)
        return Preparation(
            spot_size=data.pictures["spot"].size,
            niche_size=data.pictures["niche"].size,
            spot_interpolation=data.pictures["spot"].interpolation,
            niche_interpolation=data.pictures["niche"].interpolation,
            colour=SlideColour(mean.numpy(), sd.numpy()) if data.stain == "slide" else None,
            share=data.vocabulary.share,
            total=data.vocabulary.total,
            niche=data.niche,
            spot_um=_find_range(record.spot_um for record in records),
            niche_um=_find_range(record.niche_um for record in records),
        )

    def results(self) -> tuple[list[Row], dict[str, int]]:
        """Return the rows of splits evaluated with these weights; and the step of each split evaluated with others."""
        path = self.folder / "results.json"
        steps = read_result_steps(path)
        rows = read_results(path) if path.exists() else []
        return (
            [row for row in rows if steps.get(row.split) == self.step],
            {split: step for split, step in steps.items() if step != self.step},
        )


def read_run(config: Path, asked: str | None, shards: str | None = None) -> FinishedRun:
    """Read a run by its config.yaml.

    Args:
        config: path of config.yaml in the run's folder.
        asked: best, last or a path; None takes best, else last.
        shards: new path of the shard set, if it has moved.

    Raises:
        ConfigError: no such file, one that is not a run's, a checkpoint of another configuration, or a model of a class
            that cannot be exported.
        ShardError: see `ShardSet`.
    """
    path, value = config, _read_config(config)
    architecture = Architecture.from_json(value["model"]["model"])
    checkpoint = find_checkpoint(asked, path.parent)
    saved = AtomicCheckpointIO().load_checkpoint(checkpoint, weights_only=True)
    data = _build_data(value["data"], shards)
    data.load_state_dict(saved[STAlignData.__qualname__])
    model = architecture.build(data.gene_panel)
    frozen = model.frozen_prefixes
    state = {key: tensor for key, tensor in model.state_dict().items() if frozen and key.startswith(frozen)}
    state |= {
        key.removeprefix(OF_MODEL): tensor for key, tensor in saved["state_dict"].items() if key.startswith(OF_MODEL)
    }
    load_tensors(model, state, checkpoint, f"{path} must be of the run that wrote it")
    step, averaged = saved["global_step"], CURRENT in saved
    return FinishedRun(path.parent, value, checkpoint, step, averaged, architecture, model.eval(), data)


def _read_config(path: Path) -> dict[str, Any]:
    """Read a run's config.yaml, and check that it has the keys that an export reads."""
    wanted = "the config.yaml that `fit` wrote into the run's folder is wanted"
    if not path.is_file():
        raise ConfigError(f"{path} is {'a folder' if path.is_dir() else 'not there'}; {wanted}")
    value = read_config(path)
    if path.name != "config.yaml" or not {"model", "data", "run"} <= value.keys():
        raise ConfigError(f"{path} is not a run's own: {wanted}")
    sections = {"model": ("model",), "run": ("name",), "data": ("shards", "niche")}
    lacking = [] if "seed_everything" in value else ["seed_everything"]
    for section, keys in sections.items():
        given = value[section] if isinstance(value[section], dict) else {}
        lacking += [f"{section}.{key}" for key in keys if key not in given]
    if lacking:
        raise ConfigError(f"{path} lacks {', '.join(lacking)}: it is not as `fit` wrote it")
    return value


def _build_data(config: dict[str, Any], shards: str | None) -> STAlignData:
    """Build the data of the run, without the settings that only training reads."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(STAlignData, "data")
    given = {**config, "clusters": None, "stage_to": None}
    if shards is not None:
        given["shards"] = shards
    try:
        return parser.instantiate_classes(parser.parse_object({"data": given}))["data"]
    except ArgumentError as error:
        raise ConfigError(f"config.yaml: data: {error}") from error


def _find_range(sides: Iterable[float]) -> tuple[float, float]:
    sides = sorted(sides)
    return sides[0], sides[-1]
