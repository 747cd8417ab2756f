"""Groups and datasets of an HDF5 file by their paths, typed: one in the other's place is an error that names it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import h5py


def open_group(parent: h5py.Group, path: str) -> h5py.Group:
    """Open a group below a group or file.

    Raises:
        KeyError: there is nothing of that path.
        ValueError: it is a dataset.
    """
    import h5py

    found = parent[path]
    if not isinstance(found, h5py.Group):
        raise ValueError(f"{found.name} is a dataset; a group is wanted")
    return found


def open_dataset(parent: h5py.Group, path: str) -> h5py.Dataset:
    """Open a dataset below a group or file.

    Raises:
        KeyError: there is nothing of that path.
        ValueError: it is a group.
    """
    import h5py

    found = parent[path]
    if not isinstance(found, h5py.Dataset):
        raise ValueError(f"{found.name} is a group; a dataset is wanted")
    return found


def read_array(parent: h5py.Group, path: str) -> np.ndarray:
    """Read a dataset whole, of any shape, a single value as an array of shape [].

    Raises:
        KeyError: there is nothing of that path.
        ValueError: it is a group.
    """
    return np.asarray(open_dataset(parent, path)[()])


def read_texts(parent: h5py.Group, path: str) -> np.ndarray:
    """Read a dataset of texts, of any shape, as str objects.

    Raises:
        KeyError: there is nothing of that path.
        ValueError: it is a group.
        TypeError: it does not hold texts.
    """
    return np.asarray(open_dataset(parent, path).asstr()[()], dtype=object)


def read_text(parent: h5py.Group, path: str) -> str:
    """Read a dataset that is a single text.

    Raises:
        KeyError: there is nothing of that path.
        ValueError: it is a group, or holds an array.
        TypeError: it does not hold text.
    """
    text = open_dataset(parent, path).asstr()[()]
    if not isinstance(text, str):
        raise ValueError(f"{path} is an array of {text.shape}; a single text is wanted")
    return text
