"""Run frozen encoders once over slides, and keep what they say: what `cache-features` does for one process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from stalign_pl.batch.spot_batch import SpotBatch
from stalign_pl.data.datamodule import STAlignData
from stalign_pl.data.epoch.plan import reading_plan
from stalign_pl.data.features.file import FeatureFile, feature_path, new_features, open_features
from stalign_pl.data.features.settings import FeatureSettings, Settings, differences
from stalign_pl.data.reading.loader import BatchLoader
from stalign_pl.data.reading.reader import BatchReader
from stalign_pl.data.shards.shard_set import SlideShard
from stalign_pl.errors import ConfigError
from stalign_pl.files import sweep

VIEWS_SEED = 0
"""Of the augmented views' draws: not the run's, so that runs of several seeds share one cache."""


@dataclass(frozen=True)
class FeatureMaker:
    """Makes one folder's files.

    Attributes:
        data: the slides, and how their samples are shown.
        streams: of the model, in eval mode on `device`, by name; each an encoder's `features`.
        settings: what their features depend on.
        folder: where the files go.
        views: augmented views of each slide that is trained on.
        batch: spots that pass through the encoders at once.
    """

    data: STAlignData
    streams: Mapping[str, nn.Module]
    settings: FeatureSettings
    folder: Path
    views: int
    batch: int
    device: torch.device

    def views_of(self, slide: SlideShard) -> int:
        """Held-out slides are never augmented."""
        return self.views if slide.record.number in self.data.train_slides else 0

    def missing(self, slide: SlideShard, say: Callable[[str], object]) -> list[str]:
        """The streams whose file of a slide is not there, is damaged, or was made otherwise.

        Args:
            say: is told of a damaged file, in a line.
        """
        return [stream for stream in self.streams if not self._there(stream, slide, say)]

    def _there(self, stream: str, slide: SlideShard, say: Callable[[str], object]) -> bool:
        path = feature_path(self.folder, slide, stream)
        if not path.is_file():
            return False
        try:
            file = open_features(path)
        except ConfigError:
            say(f"{path} cannot be read as features, and is made anew")
            return False
        if file.views != self.views_of(slide) or differences(file.settings, self._wanted(stream, slide)):
            return False
        if damaged := file.damaged:
            say(f"{path} is damaged, {damaged} of its features are not what was written; it is made anew")
        return damaged == 0

    def _wanted(self, stream: str, slide: SlideShard) -> Settings:
        return self.settings.of(stream, slide, self.views_of(slide))

    @torch.inference_mode()
    def make(self, slide: SlideShard, streams: list[str], progress: Callable[[int], object]) -> int:
        """Write a slide's files of some streams.

        Args:
            progress: is told of spots done, each counted once a view.

        Returns:
            How many of its samples are damaged; their features are 0, and marked.

        Raises:
            ConfigError: another process makes the same files.
        """
        views, number = self.views_of(slide), slide.record.number
        sweep(self.folder, *(feature_path(self.folder, slide, stream).name for stream in streams))
        data, pin = self.data, self.device.type == "cuda"
        reader = BatchReader({number: slide}, data.niche, threads=data.threads, verify=data.verify, pin=pin)
        plan = reading_plan({number: np.arange(len(slide))}, min(self.batch, len(slide)))
        loader = BatchLoader(reader, lambda epoch: plan, pin=pin)
        files: dict[str, FeatureFile] = {}
        with ExitStack() as stack:
            for batch in loader:
                spots = batch.spot[batch.valid].numpy()
                for view in range(1 + views):
                    for stream, values in self._encoded(batch, view, streams).items():
                        if stream not in files:
                            path, settings = feature_path(self.folder, slide, stream), self._wanted(stream, slide)
                            new = new_features(path, settings, views, len(slide), values.shape[1])
                            files[stream] = stack.enter_context(new)
                        files[stream].values[view, spots] = values.float().cpu().numpy()
                    progress(len(spots))
            damaged = [spot for _, spot in loader.damaged]
            for file in files.values():
                file.valid[damaged] = False
                file.values[:, damaged] = 0
        reader.close()
        return len(damaged)

    def _encoded(self, batch: SpotBatch, view: int, streams: list[str]) -> dict[str, Tensor]:
        """[valid rows, F] of each stream; view 0 is plain, view v is what epoch v of a run with VIEWS_SEED shows."""
        transform = self.data.transform.to(self.device)
        if view == 0:
            inputs = transform(batch.to(self.device))
        else:
            augmentation = replace(self.data.augmentation, shuffle_pairs="none")
            slide, spot = (column.clamp(min=0).numpy() for column in (batch.slide, batch.spot))
            draws = torch.from_numpy(augmentation.draws(VIEWS_SEED)(view, slide, spot))
            inputs = transform(replace(batch, draws=draws).to(self.device), augmentation, VIEWS_SEED, view)
        return {stream: self.streams[stream].features(*inputs.model[inputs.ids.valid].of(stream)) for stream in streams}
