"""A folder of cached features opened for a run: refused where it was made otherwise, read by rows of a batch."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stalign_pl.batch.buffers import BatchBuffers
from stalign_pl.batch.features import CachedFeatures
from stalign_pl.data.features.file import FeatureFile, checksum, feature_path, open_features
from stalign_pl.data.features.settings import FeatureSettings, differences
from stalign_pl.data.shards.shard_set import SlideShard
from stalign_pl.draws import uniform
from stalign_pl.errors import ConfigError, listed

VIEW = 5
"""Stream of `draws.uniform`: where in the views a spot begins."""

AGAIN = "Make them: python -m stalign_pl cache-features --config CONFIG --out"


class FeatureCache:
    """The features of some slides, of every cacheable stream that the folder has.

    Args:
        folder: of `python -m stalign_pl cache-features`.
        settings: what the features must have been made with.
        slides: all that a batch may name, by number.
        trained: the numbers of those that are trained on.

    Attributes:
        views: stream -> augmented views of the slides that are trained on.
        widths: stream -> F, numbers a spot.
        instead: stream -> views, of the streams that training would augment anew in each step without the cache.

    Raises:
        ConfigError: no such folder; no stream of it that this model can take; a slide that is missing; features that
            were made with other settings, by name; training slides with different numbers of views.
    """

    def __init__(
        self, folder: Path, settings: FeatureSettings, slides: Mapping[int, SlideShard], trained: Collection[int]
    ) -> None:
        self.folder = folder
        if not folder.is_dir():
            raise ConfigError(f"data.features: there is no folder {folder}. {AGAIN} {folder}")
        if not settings.encoders:
            raise ConfigError(
                f"data.features is {folder}, and no stream of the model is a frozen encoder whose features could be "
                f"cached: freeze one, or set data.features: null"
            )
        self._slides = slides
        self._files: dict[str, dict[int, FeatureFile]] = {}
        for stream in settings.encoders:
            paths = {number: feature_path(folder, slide, stream) for number, slide in slides.items()}
            missing = [slides[number].record.name for number, path in paths.items() if not path.is_file()]
            if len(missing) == len(paths):
                continue
            if missing:
                raise ConfigError(
                    f"data.features: {folder} has no {stream} features of {listed(missing)}. {AGAIN} {folder}"
                )
            self._files[stream] = {number: open_features(path) for number, path in paths.items()}
            self._refuse_stale(stream, settings)
        if not self._files:
            raise ConfigError(
                f"data.features: {folder} has no features of {' or '.join(settings.encoders)}, the model's frozen "
                f"encoders, for these slides. {AGAIN} {folder}"
            )
        self.views = {stream: self._views_of(stream, slides, trained) for stream in self._files}
        self.instead = {stream: views for stream, views in self.views.items() if settings.augments(stream)}
        self.widths = {stream: next(iter(files.values())).values.shape[2] for stream, files in self._files.items()}

    def _refuse_stale(self, stream: str, settings: FeatureSettings) -> None:
        for number, file in self._files[stream].items():
            found = differences(file.settings, settings.of(stream, self._slides[number], file.views))
            if found:
                raise ConfigError(
                    f"data.features: {self.path(stream, number)} was made otherwise: {'; '.join(found)}. "
                    f"{AGAIN} {self.folder}, or another folder: one holds the features of one split and setting"
                )

    def _views_of(self, stream: str, slides: Mapping[int, SlideShard], trained: Collection[int]) -> int:
        by_views: dict[int, list[str]] = {}
        for number in trained:
            by_views.setdefault(self._files[stream][number].views, []).append(slides[number].record.name)
        if len(by_views) > 1:
            counts = "; ".join(f"{views} of {listed(names)}" for views, names in sorted(by_views.items()))
            raise ConfigError(
                f"data.features: {self.folder} has different numbers of augmented {stream} views: {counts}. "
                f"{AGAIN} {self.folder} --views N"
            )
        return next(iter(by_views), 0)

    def described(self) -> list[str]:
        """A line a stream: where its features come from, and what is augmented."""
        return [
            f"{stream}: features from {self.folder}, "
            + (f"{views} augmented views while training" if views else "without augmentation: they have one view")
            for stream, views in self.views.items()
        ]

    def file(self, stream: str, number: int) -> FeatureFile:
        """A slide's features."""
        return self._files[stream][number]

    def path(self, stream: str, number: int) -> Path:
        return feature_path(self.folder, self._slides[number], stream)


@dataclass(frozen=True)
class FeatureRows:
    """What a BatchReader takes of a cache.

    Attributes:
        seed: of a run that trains, and so sees augmented views; None sees the plain one.
        verify: compare what is read with its checksum.
    """

    cache: FeatureCache
    seed: int | None = None
    verify: bool = True

    @property
    def streams(self) -> frozenset[str]:
        return frozenset(self.cache.views)

    def whole(self, slide: int, spot: int) -> bool:
        """False where the spot's sample was damaged when a stream's features were made."""
        return all(self.cache.file(stream, slide).valid[spot] for stream in self.cache.views)

    def read(self, epoch: int, slide: np.ndarray, spot: np.ndarray, buffers: BatchBuffers) -> CachedFeatures:
        """The rows' features: slide [B] and spot [B], -1 in rows that are not valid, which are 0.

        Raises:
            ConfigError: features that are not what was written.
        """
        return CachedFeatures(**{stream: self._stream(stream, epoch, slide, spot, buffers) for stream in self.streams})

    def _stream(self, stream: str, epoch: int, slide: np.ndarray, spot: np.ndarray, buffers: BatchBuffers) -> Tensor:
        found = buffers.lend((len(slide), self.cache.widths[stream]), torch.float32)
        found.numpy()[spot < 0] = 0
        view = self._view(self.cache.views[stream], epoch, slide, spot)
        for number in np.unique(slide[spot >= 0]).tolist():
            rows = np.flatnonzero((slide == number) & (spot >= 0))
            file = self.cache.file(stream, number)
            values = file.values[view[rows], spot[rows]]
            if self.verify:
                self._check(stream, number, values, file.checksums[view[rows], spot[rows]], spot[rows])
            found.numpy()[rows] = values
        return found

    def _check(self, stream: str, number: int, values: np.ndarray, checksums: np.ndarray, spots: np.ndarray) -> None:
        wrong = [spot for spot, row, wanted in zip(spots, values, checksums, strict=True) if checksum(row) != wanted]
        if wrong:
            path = self.cache.path(stream, number)
            raise ConfigError(
                f"data.features: {path} is damaged: the features of spot {wrong[0]} are not what was written. "
                f"{AGAIN} {self.cache.folder}"
            )

    def _view(self, views: int, epoch: int, slide: np.ndarray, spot: np.ndarray) -> np.ndarray:
        """int64 [B]: a spot goes through its augmented views in turn, an epoch each, from one that is drawn."""
        if self.seed is None or views == 0:
            return np.zeros(len(slide), np.int64)
        start = uniform(self.seed, 0, np.maximum(slide, 0), np.maximum(spot, 0), VIEW, 1)[:, 0]
        return 1 + ((start * views).astype(np.int64) + epoch) % views
