"""Runs frozen encoders once over slides and keeps their output: one process's share of `cache-features`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from stalign_pl.batch.spot_batch import SpotBatch
from stalign_pl.data.datamodule import STAlignData
from stalign_pl.data.epoch.plan import plan_reading
from stalign_pl.data.features.file import FeatureFile, create_features, feature_path, open_features
from stalign_pl.data.features.settings import FeatureSettings, Settings, describe_differences
from stalign_pl.data.reading.loader import BatchLoader
from stalign_pl.data.reading.reader import BatchReader
from stalign_pl.data.shards.shard_set import SlideShard
from stalign_pl.errors import ConfigError
from stalign_pl.files import sweep_temporary

VIEWS_SEED = 0
"""Of the augmented views' draws: not the run's, so that runs of several seeds share one cache."""


@runtime_checkable
class FrozenStream(Protocol):
    """A stream of a model with a frozen encoder."""

    @property
    def features(self) -> Callable[..., Tensor]:
        """Input of the stream -> its encoder's pooled output, [B, F]."""
        ...


@dataclass(frozen=True)
class FeatureMaker:
    """Makes the files of one folder.

    Attributes:
        data: the slides, and how their samples are prepared.
        streams: streams of the model by name, in eval mode on `device`; each is a `FrozenStream`.
        settings: what their features depend on.
        folder: where the files go.
        views: augmented views of each training slide.
        batch: spots that pass through the encoders at once.
        device: where the streams are.
    """

    data: STAlignData
    streams: Mapping[str, nn.Module]
    settings: FeatureSettings
    folder: Path
    views: int
    batch: int
    device: torch.device

    def views_of(self, slide: SlideShard) -> int:
        """Augmented views of a slide; 0 of a held-out one, which is never augmented."""
        return self.views if slide.record.number in self.data.train_slides else 0

    def missing(self, slide: SlideShard, say: Callable[[str], object]) -> list[str]:
        """Find the streams whose file of a slide is missing, damaged, or made with other settings.

        Args:
            slide: any of the data's.
            say: is called with a line on each damaged file.

        Returns:
            Names of streams.
        """
        return [stream for stream in self.streams if not self._is_made(stream, slide, say)]

    def _is_made(self, stream: str, slide: SlideShard, say: Callable[[str], object]) -> bool:
        """Whether the file of a stream and slide is there, whole, and made with these settings."""
        path = feature_path(self.folder, slide, stream)
        if not path.is_file():
            return False
        try:
            file = open_features(path)
        except ConfigError:
            say(f"{path} cannot be read as features, and is made anew")
            return False
        if file.views != self.views_of(slide) or describe_differences(file.settings, self._settings_of(stream, slide)):
            return False
        if damaged := file.damaged:
            say(f"{path} is damaged, {damaged} of its features are not what was written; it is made anew")
        return damaged == 0

    def _settings_of(self, stream: str, slide: SlideShard) -> Settings:
        """What the features of a stream and slide depend on."""
        return self.settings.of(stream, slide, self.views_of(slide))

    @torch.inference_mode()
    def make(self, slide: SlideShard, streams: list[str], progress: Callable[[int], object]) -> int:
        """Write a slide's files of some streams.

        Args:
            slide: any of the data's.
            streams: their names.
            progress: is called with the number of spots encoded since the last call, each counted once a view.

        Returns:
            The number of damaged samples; their features are 0 and marked.

        Raises:
            ConfigError: another process makes the same files.
        """
        views, number = self.views_of(slide), slide.record.number
        sweep_temporary(self.folder, *(feature_path(self.folder, slide, stream).name for stream in streams))
        data, pin = self.data, self.device.type == "cuda"
        reader = BatchReader({number: slide}, data.niche, threads=data.threads, verify=data.verify, pin=pin)
        plan = plan_reading({number: np.arange(len(slide))}, min(self.batch, len(slide)))
        loader = BatchLoader(reader, lambda epoch: plan, pin=pin)
        files: dict[str, FeatureFile] = {}
        with ExitStack() as stack:
            for batch in loader:
                spots = batch.spot[batch.valid].numpy()
                for view in range(1 + views):
                    for stream, values in self._encode(batch, view, streams).items():
                        if stream not in files:
                            path, settings = feature_path(self.folder, slide, stream), self._settings_of(stream, slide)
                            new = create_features(path, settings, views, len(slide), values.shape[1])
                            files[stream] = stack.enter_context(new)
                        files[stream].values[view, spots] = values.float().cpu().numpy()
                    progress(len(spots))
            damaged = [spot for _, spot in loader.damaged]
            for file in files.values():
                file.valid[damaged] = False
                file.values[:, damaged] = 0
        reader.close()
        return len(damaged)

    def _encode(self, batch: SpotBatch, view: int, streams: list[str]) -> dict[str, Tensor]:
        """Encode a batch's valid rows.

        Args:
            batch: as read.
            view: 0 is the plain one; view v is augmented as in epoch v of a run with VIEWS_SEED.
            streams: their names.

        Returns:
            Stream -> [valid rows, F].
        """
        transform = self.data.transform.to(self.device)
        if view == 0:
            inputs = transform(batch.to(self.device))
        else:
            augmentation = replace(self.data.augmentation, shuffle_pairs="none")
            slide, spot = (column.clamp(min=0).numpy() for column in (batch.slide, batch.spot))
            draws = torch.from_numpy(augmentation.draws(VIEWS_SEED)(view, slide, spot))
            inputs = transform(replace(batch, draws=draws).to(self.device), augmentation, VIEWS_SEED, view)
        valid = inputs.model[inputs.ids.valid]
        return {stream: self._stream(stream).features(*valid.of(stream)) for stream in streams}

    def _stream(self, name: str) -> FrozenStream:
        """A stream by name; raises ConfigError where it has no frozen encoder."""
        stream = self.streams[name]
        if not isinstance(stream, FrozenStream):
            raise ConfigError(f"{name} is a {type(stream).__name__}, which has no features that could be cached")
        return stream


def choose_share(slides: Sequence[SlideShard], task: int, tasks: int) -> list[SlideShard]:
    """Choose a task's slides so that spots are spread evenly over the tasks.

    The choice depends on the slides and the number of tasks alone, not on which features exist.

    Args:
        slides: of all tasks.
        task: 0 to tasks - 1.
        tasks: their number.
    """
    loads, mine = [0] * tasks, []
    for slide in sorted(slides, key=lambda slide: (-len(slide), slide.record.number)):
        least = loads.index(min(loads))
        loads[least] += len(slide)
        if least == task:
            mine.append(slide)
    return mine
