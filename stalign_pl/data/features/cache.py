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
from stalign_pl.data.features.file import FeatureFile, compute_checksum, feature_path, open_features
from stalign_pl.data.features.settings import FeatureSettings, describe_differences
from stalign_pl.data.shards.shard_set import SlideShard
from stalign_pl.draws import draw_uniform
from stalign_pl.errors import ConfigError, join_names

VIEW = 5
"""Stream of `draws.draw_uniform`: the view that a spot begins with."""

AGAIN = "Make them: python -m stalign_pl cache-features --config CONFIG --out"


class FeatureCache:
    """Cached features of a run's slides, of every frozen stream that the folder has.

    Args:
        folder: of `python -m stalign_pl cache-features`.
        settings: what the features must have been made with.
        slides: all slides that a batch may name, by number.
        trained: the numbers of the training slides.

    Attributes:
        folder: as given.
        views: stream -> augmented views of the training slides.
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
                    f"data.features: {folder} has no {stream} features of {join_names(missing)}. {AGAIN} {folder}"
                )
            self._files[stream] = {number: open_features(path) for number, path in paths.items()}
            self._refuse_stale(stream, settings)
        if not self._files:
            raise ConfigError(
                f"data.features: {folder} has no features of {' or '.join(settings.encoders)}, the model's frozen "
                f"encoders, for these slides. {AGAIN} {folder}"
            )
        self.views = {stream: self._count_views(stream, trained) for stream in self._files}
        self.instead = {stream: views for stream, views in self.views.items() if settings.augments(stream)}
        self.widths = {stream: next(iter(files.values())).values.shape[2] for stream, files in self._files.items()}

    def _refuse_stale(self, stream: str, settings: FeatureSettings) -> None:
        """Raise ConfigError for features of a stream that were made with other settings."""
        for number, file in self._files[stream].items():
            found = describe_differences(file.settings, settings.of(stream, self._slides[number], file.views))
            if found:
                raise ConfigError(
                    f"data.features: {self.path(stream, number)} was made otherwise: {'; '.join(found)}. "
                    f"{AGAIN} {self.folder}, or another folder: one holds the features of one split and setting"
                )

    def _count_views(self, stream: str, trained: Collection[int]) -> int:
        """Augmented views of a stream, of the training slides; raises ConfigError where they have different ones."""
        by_views: dict[int, list[str]] = {}
        for number in trained:
            by_views.setdefault(self._files[stream][number].views, []).append(self._slides[number].record.name)
        if len(by_views) > 1:
            counts = "; ".join(f"{views} of {join_names(names)}" for views, names in sorted(by_views.items()))
            raise ConfigError(
                f"data.features: {self.folder} has different numbers of augmented {stream} views: {counts}. "
                f"{AGAIN} {self.folder} --views N"
            )
        return next(iter(by_views), 0)

    def describe(self) -> list[str]:
        """Describe each stream in a line: where its features come from, and what is augmented."""
        return [
            f"{stream}: features from {self.folder}, "
            + (f"{views} augmented views while training" if views else "without augmentation: they have one view")
            for stream, views in self.views.items()
        ]

    def file(self, stream: str, number: int) -> FeatureFile:
        """A slide's features of one stream."""
        return self._files[stream][number]

    def path(self, stream: str, number: int) -> Path:
        """Path of a slide's features of one stream."""
        return feature_path(self.folder, self._slides[number], stream)


@dataclass(frozen=True)
class FeatureRows:
    """Cached features by rows of a batch: a `FeatureSource` for BatchReader.

    Attributes:
        cache: the features.
        seed: of a run that trains, which reads augmented views; None reads the plain one.
        verify: compare what is read with its checksum.
    """

    cache: FeatureCache
    seed: int | None = None
    verify: bool = True

    @property
    def streams(self) -> frozenset[str]:
        """The streams whose features are cached."""
        return frozenset(self.cache.views)

    def whole(self, slide: int, spot: int) -> bool:
        """Whether the spot's sample was undamaged when its features were made, in every stream."""
        return all(self.cache.file(stream, slide).valid[spot] for stream in self.cache.views)

    def read(self, epoch: int, slide: np.ndarray, spot: np.ndarray, buffers: BatchBuffers) -> CachedFeatures:
        """Read the rows' features.

        Args:
            epoch: decides which augmented view a spot shows.
            slide: int [B], slide numbers.
            spot: int [B], spot indices, -1 in rows that are not valid, whose features are 0.
            buffers: lends the memory of the result.

        Raises:
            ConfigError: features that are not what was written.
        """
        return CachedFeatures(
            **{stream: self._read_stream(stream, epoch, slide, spot, buffers) for stream in self.streams}
        )

    def _read_stream(
        self, stream: str, epoch: int, slide: np.ndarray, spot: np.ndarray, buffers: BatchBuffers
    ) -> Tensor:
        """float32 [B, F]: one stream's features; see `read`."""
        found = buffers.lend((len(slide), self.cache.widths[stream]), torch.float32)
        found.numpy()[spot < 0] = 0
        view = self._choose_views(self.cache.views[stream], epoch, slide, spot)
        for number in np.unique(slide[spot >= 0]).tolist():
            rows = np.flatnonzero((slide == number) & (spot >= 0))
            file = self.cache.file(stream, number)
            values = file.values[view[rows], spot[rows]]
            if self.verify:
                self._check(stream, number, values, file.checksums[view[rows], spot[rows]], spot[rows])
            found.numpy()[rows] = values
        return found

    def _check(self, stream: str, number: int, values: np.ndarray, checksums: np.ndarray, spots: np.ndarray) -> None:
        wrong = [
            spot for spot, row, wanted in zip(spots, values, checksums, strict=True) if compute_checksum(row) != wanted
        ]
        if wrong:
            path = self.cache.path(stream, number)
            raise ConfigError(
                f"data.features: {path} is damaged: the features of spot {wrong[0]} are not what was written. "
                f"{AGAIN} {self.cache.folder}"
            )

    def _choose_views(self, views: int, epoch: int, slide: np.ndarray, spot: np.ndarray) -> np.ndarray:
        """int64 [B]: each spot's view. It goes through its augmented views in turn, one an epoch, from a drawn one."""
        if self.seed is None or views == 0:
            return np.zeros(len(slide), np.int64)
        start = draw_uniform(self.seed, 0, np.maximum(slide, 0), np.maximum(spot, 0), VIEW, 1)[:, 0]
        return 1 + ((start * views).astype(np.int64) + epoch) % views
