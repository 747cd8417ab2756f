"""One slide's cached features of one stream: an HDF5 file that is written whole and read by memory map.

features    float32 [1 + views, N, F], contiguous: the spots' plain view, then augmented ones, in spot order
valid       bool [N], False where the spot's sample was damaged
checksums   uint32 [1 + views, N], CRC-32 of each spot's features
attributes  settings: JSON, what the features depend on (`feature_settings`); versions: of the packages
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

from stalign_pl.data.features.settings import Settings
from stalign_pl.data.shards.shard_set import SlideShard
from stalign_pl.errors import ConfigError
from stalign_pl.files import replacing

VALUES = np.dtype("<f4")
ANEW = "Make it anew: python -m stalign_pl cache-features --config CONFIG --out ITS_FOLDER"

# HDF5's locks are for files with writers and readers at once, and some cluster file systems have none: these files are
# written under another name.


@dataclass(frozen=True)
class FeatureFile:
    """Opened for reading, or new and to be filled.

    Attributes:
        values: float32 [1 + views, N, F], a memory map.
        valid: bool [N].
        checksums: uint32 [1 + views, N].
        settings: what the features depend on.
    """

    values: np.ndarray
    valid: np.ndarray
    checksums: np.ndarray
    settings: Settings

    @property
    def views(self) -> int:
        """Augmented views."""
        return len(self.values) - 1

    @property
    def damaged(self) -> int:
        """The number of features, of spots and views, that are not what was written. Reads the whole file."""
        return int((_checksums(self.values) != self.checksums).sum())


def feature_path(folder: Path, slide: SlideShard, stream: str) -> Path:
    return folder / f"{slide.record.stem}.{stream}.h5"


@contextmanager
def new_features(path: Path, settings: Settings, views: int, spots: int, width: int) -> Iterator[FeatureFile]:
    """A file of features to be filled within the block; it stands under its name when that ends well.

    Raises:
        ConfigError: what was written so far is gone: another maker takes it for a killed one's, and sweeps.
    """
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
            versions = {name: version(name) for name in ("torch", "timm", "numpy")}
            for name, value in (("settings", settings), ("versions", versions)):
                # Of fixed length: HDF5 can look for a string of variable length for ever in a damaged file.
                file.attrs[name] = np.bytes_(json.dumps(value))
        new = FeatureFile(
            np.memmap(temporary, VALUES, "r+", offset, shape),
            np.ones(spots, bool),
            np.empty(shape[:2], "<u4"),
            settings,
        )
        yield new
        if not temporary.exists():
            raise ConfigError(
                f"{path.parent}: a file that was being made of {path.name.partition('.')[0]} is gone, as when another "
                f"process makes the same features. Let one end; several at once want --task I --tasks N"
            )
        new.values.flush()
        new.checksums[:] = _checksums(new.values)
        with h5py.File(temporary, "r+", locking=False) as file:
            file.create_dataset("valid", data=new.valid)
            file.create_dataset("checksums", data=new.checksums)


def checksum(values: np.ndarray) -> int:
    """CRC-32 of one spot's features, [F]."""
    return zlib.crc32(values)


def _checksums(values: np.ndarray) -> np.ndarray:
    """[1 + views, N] of [1 + views, N, F]."""
    return np.array([[checksum(row) for row in view] for view in values], np.uint32).reshape(values.shape[:2])


def open_features(path: Path) -> FeatureFile:
    """Open a file of features.

    Raises:
        ConfigError: not one.
    """
    import h5py

    try:
        with h5py.File(path, locking=False) as file:
            datasets = [file.get(name) for name in ("features", "valid", "checksums")]
            if not all(isinstance(each, h5py.Dataset) for each in datasets):
                raise ValueError("features, valid and checksums are wanted")
            if file.attrs.get_id("settings").dtype.kind != "S":
                raise ValueError("its settings are not text of fixed length")
            (features, valid, checksums), settings = datasets, json.loads(file.attrs["settings"])
            shape, offset = features.shape, features.id.get_offset()
            kinds = [each.dtype for each in datasets] == [VALUES, np.dtype(bool), np.dtype("<u4")]
            fits = len(shape) == 3 and valid.shape == shape[1:2] and checksums.shape == shape[:2] and offset is not None
            if not (kinds and fits and isinstance(settings, dict)):
                raise ValueError("its parts have other types or shapes")
            valid, checksums = valid[()], checksums[()]
    except (OSError, KeyError, ValueError, RuntimeError) as error:  # RuntimeError: of HDF5, on damaged structure
        raise ConfigError(f"{path} is not a file of cached features ({error}). {ANEW}") from error
    # As a plain array: its slices cost a tenth of a memmap's.
    return FeatureFile(np.memmap(path, VALUES, "r", offset, shape).view(np.ndarray), valid, checksums, settings)
