"""One slide's cached features of one stream: an HDF5 file that is written whole and read by memory map.

features    float32 [1 + views, N, F], contiguous: the spots' plain view, then augmented ones, in spot order
valid       bool [N], False where the spot's sample was damaged
attributes  settings: JSON, what the features depend on (`feature_settings`); versions: of the packages
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

from stalign_pl.data.feature_settings import Settings
from stalign_pl.data.shards import SlideShard
from stalign_pl.errors import ConfigError
from stalign_pl.shard_format import replacing

VALUES = np.dtype("<f4")
ANEW = "It is made anew by: python -m stalign_pl cache-features"

# HDF5's locks are for files with writers and readers at once, and some cluster file systems have none: these files are
# written under another name.


@dataclass(frozen=True)
class FeatureFile:
    """Opened for reading, or new and to be filled.

    Attributes:
        values: float32 [1 + views, N, F], a memory map.
        valid: bool [N].
        settings: what the features depend on.
    """

    values: np.ndarray
    valid: np.ndarray
    settings: Settings

    @property
    def views(self) -> int:
        """Augmented views."""
        return len(self.values) - 1


def feature_path(folder: Path, slide: SlideShard, stream: str) -> Path:
    return folder / f"{slide.record.stem}.{stream}.h5"


@contextmanager
def new_features(path: Path, settings: Settings, views: int, spots: int, width: int) -> Iterator[FeatureFile]:
    """A file of features to be filled within the block; it stands under its name when that ends well."""
    import h5py

    with replacing(path) as temporary:
        shape = (1 + views, spots, width)
        with h5py.File(temporary, "w", locking=False) as file:
            options = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            options.set_layout(h5py.h5d.CONTIGUOUS)
            options.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)  # so that there is a place to map
            options.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
            space = h5py.h5s.create_simple(shape)
            offset = h5py.h5d.create(file.id, b"features", h5py.h5t.IEEE_F32LE, space, options).get_offset()
            file.attrs["settings"] = json.dumps(settings)
            file.attrs["versions"] = json.dumps({name: version(name) for name in ("torch", "timm", "numpy")})
        values = np.memmap(temporary, VALUES, "r+", offset, shape)
        valid = np.ones(spots, bool)
        yield FeatureFile(values, valid, settings)
        values.flush()
        del values
        with h5py.File(temporary, "r+", locking=False) as file:
            file.create_dataset("valid", data=valid)


def open_features(path: Path) -> FeatureFile:
    """Open a file of features.

    Raises:
        ConfigError: not one.
    """
    import h5py

    try:
        with h5py.File(path, locking=False) as file:
            dataset, valid = file["features"], file["valid"][()]
            settings, shape, offset = json.loads(file.attrs["settings"]), dataset.shape, dataset.id.get_offset()
            fits = dataset.dtype == VALUES and len(shape) == 3 and valid.shape == shape[1:2] and offset is not None
    except (OSError, KeyError, ValueError) as error:
        raise ConfigError(f"{path} is not a file of cached features ({error}). {ANEW}") from error
    if not fits:
        raise ConfigError(f"{path} is not a file of cached features. {ANEW}")
    # As a plain array: its slices cost a tenth of a memmap's.
    return FeatureFile(np.memmap(path, VALUES, "r", offset, shape).view(np.ndarray), valid, settings)
