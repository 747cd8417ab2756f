"""One slide's cached features of one stream: an HDF5 file that is written as a whole and read by memory map.

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
from typing import TYPE_CHECKING

import numpy as np

from stalign_pl.data.features.settings import Settings
from stalign_pl.data.shards.shard_set import SlideShard
from stalign_pl.errors import ConfigError
from stalign_pl.files import replace_file

if TYPE_CHECKING:
    import h5py

VALUES = np.dtype("<f4")
DATASETS = {"features": VALUES, "valid": np.dtype(bool), "checksums": np.dtype("<u4")}
"""Names and types of a file's datasets."""

ANEW = "Make it anew: python -m stalign_pl cache-features --config CONFIG --out ITS_FOLDER"

# Every file is opened without HDF5's locks: they are for files with writers and readers at once, and some cluster file
# systems have none. These files are written under another name.


@dataclass(frozen=True)
class FeatureFile:
    """A file of features, opened for reading, or new and to be filled.

    Attributes:
        values: float32 [1 + views, N, F], a memory map.
        valid: bool [N].
        checksums: uint32 [1 + views, N].
        settings: what the features depend on, see `FeatureSettings`.
    """

    values: np.ndarray
    valid: np.ndarray
    checksums: np.ndarray
    settings: Settings

    @property
    def views(self) -> int:
        """Number of augmented views."""
        return len(self.values) - 1

    @property
    def damaged(self) -> int:
        """Count the features, of spots and views, that are not what was written. Reads the whole file."""
        return int((_compute_checksums(self.values) != self.checksums).sum())


def feature_path(folder: Path, slide: SlideShard, stream: str) -> Path:
    """Path of a slide's file of one stream in a folder of features."""
    return folder / f"{slide.record.stem}.{stream}.h5"


@contextmanager
def create_features(path: Path, settings: Settings, views: int, spots: int, width: int) -> Iterator[FeatureFile]:
    """Create a file of features that is filled within the block; it stands under its name when that ends well.

    Args:
        path: of the file.
        settings: what the features depend on.
        views: augmented views.
        spots: N, of the slide.
        width: F, numbers a spot.

    Raises:
        ConfigError: what was written so far is gone, swept by another process that makes the same features.
    """
    import h5py

    with replace_file(path) as temporary:
        shape = (1 + views, spots, width)
        values = np.memmap(temporary, VALUES, "r+", _allocate(temporary, settings, shape), shape)
        new = FeatureFile(values, np.ones(spots, bool), np.empty(shape[:2], "<u4"), settings)
        yield new
        if not temporary.exists():
            raise ConfigError(
                f"{path.parent}: a file that was being made of {path.name.partition('.')[0]} is gone, as when another "
                f"process makes the same features. Let one end; several at once want --task I --tasks N"
            )
        values.flush()
        new.checksums[:] = _compute_checksums(values)
        with h5py.File(temporary, "r+", locking=False) as file:
            file.create_dataset("valid", data=new.valid)
            file.create_dataset("checksums", data=new.checksums)


def _allocate(path: Path, settings: Settings, shape: tuple[int, int, int]) -> int:
    """Create a file with its attributes and with room for the features.

    Returns:
        Where in the file the features begin, bytes.
    """
    import h5py

    with h5py.File(path, "w", locking=False) as file:
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
    return offset


def compute_checksum(values: np.ndarray) -> int:
    """CRC-32 of one spot's features, [F], contiguous."""
    return zlib.crc32(values.data)


def _compute_checksums(values: np.ndarray) -> np.ndarray:
    """[1 + views, N] of [1 + views, N, F]."""
    return np.array([[compute_checksum(row) for row in view] for view in values], np.uint32).reshape(values.shape[:2])


def open_features(path: Path) -> FeatureFile:
    """Open a file of features.

    Raises:
        ConfigError: it is none: not HDF5, damaged, or with other contents.
    """
    import h5py

    try:
        with h5py.File(path, locking=False) as file:
            features, valid, checksums = (_dataset(file, name) for name in DATASETS)
            settings = _read_settings(file)
            shape, offset = features.shape, features.id.get_offset()
            kinds = (features.dtype, valid.dtype, checksums.dtype) == tuple(DATASETS.values())
            fits = len(shape) == 3 and valid.shape == shape[1:2] and checksums.shape == shape[:2]
            if offset is None or not (kinds and fits):
                raise ValueError("its parts have other types or shapes")
            valid, checksums = valid[()], checksums[()]
    except (OSError, KeyError, ValueError, RuntimeError) as error:  # RuntimeError: of HDF5, on damaged structure
        raise ConfigError(f"{path} is not a file of cached features ({error}). {ANEW}") from error
    # As a plain array: its slices cost a tenth of a memmap's.
    return FeatureFile(np.memmap(path, VALUES, "r", offset, shape).view(np.ndarray), valid, checksums, settings)


def _dataset(file: h5py.File, name: str) -> h5py.Dataset:
    """Find a dataset; raises ValueError where there is none, or something else in its place."""
    import h5py

    node = file.get(name)
    if not isinstance(node, h5py.Dataset):
        raise ValueError(f"{name} is no dataset; features, valid and checksums are wanted")
    return node


def _read_settings(file: h5py.File) -> Settings:
    """Read what the features depend on; raises KeyError or ValueError where that is missing or no JSON object."""
    if file.attrs.get_id("settings").dtype.kind != "S":  # asked before it is read, see `_allocate`
        raise ValueError("its settings are not text of fixed length")
    text = file.attrs["settings"]
    settings = json.loads(text) if isinstance(text, bytes) else None
    if not isinstance(settings, dict):
        raise ValueError("its settings are not a JSON object")
    return settings
