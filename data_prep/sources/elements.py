"""Elements of an AnnData, in memory, in an h5ad or in a zarr group, typed: frames, matrices, keys and values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

import numpy as np
from scipy import sparse

if TYPE_CHECKING:
    import h5py
    import pandas as pd
    import zarr

    from data_prep.slide.validation import Matrix


class StoredArray(Protocol):
    """An array in a file or in memory: what of h5py's, zarr's and numpy's arrays is used here."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype: ...

    def __getitem__(self, rows: slice, /) -> object: ...


def as_frame(element: object, name: str) -> pd.DataFrame:
    """Returns an element that is a data frame.

    Raises:
        ValueError: it is something else.
    """
    import pandas as pd

    if not isinstance(element, pd.DataFrame):
        raise ValueError(f"{name} is read as {type(element).__name__}; a data frame is wanted")
    return element


def as_matrix(element: object, name: str) -> Matrix:
    """Returns an element that is an array or a sparse matrix (CSR or CSC).

    Raises:
        ValueError: it is something else.
    """
    if isinstance(element, np.ndarray | sparse.csr_matrix | sparse.csc_matrix | sparse.csr_array | sparse.csc_array):
        return element
    raise ValueError(f"{name} is read as {type(element).__name__}; an array or a sparse matrix is wanted")


def check_indices(matrix: Matrix) -> None:
    """Check a sparse matrix's indices: over those beyond the matrix, scipy dies in C.

    Raises:
        ValueError: they do not make a matrix.
    """
    if not isinstance(matrix, np.ndarray):
        matrix.check_format(full_check=True)


def read_element(parent: h5py.Group | zarr.Group, path: str) -> object:
    """Read an element by its encoding.

    Raises:
        ValueError: there is nothing of that path, or anndata cannot read it.
    """
    import anndata
    import h5py

    if path not in parent:
        raise ValueError(f"it has no {path}")
    found = parent[path]
    if isinstance(found, h5py.Datatype):
        raise ValueError(f"{path} is a type; a group or dataset is wanted")
    try:
        return anndata.io.read_elem(found)
    except Exception as error:  # anndata's own class for an unknown encoding is private
        raise ValueError(f"{path}: {error}") from error


def read_frame(parent: h5py.Group | zarr.Group, path: str) -> pd.DataFrame:
    """Read a data frame, such as obs.

    Raises:
        ValueError: as `read_element`, or it is something else.
    """
    return as_frame(read_element(parent, path), path)


def read_matrix(parent: h5py.Group | zarr.Group, path: str) -> Matrix:
    """Read a matrix, such as X, whole.

    Raises:
        ValueError: as `read_element`, or it is something else.
    """
    return as_matrix(read_element(parent, path), path)


def read_mapping(parent: h5py.Group | zarr.Group, path: str) -> Mapping[str, object]:
    """Read keys and values, such as uns or a part of it.

    Raises:
        ValueError: as `read_element`, or it is something else.
    """
    element = read_element(parent, path)
    if not isinstance(element, Mapping):
        raise ValueError(f"{path} is read as {type(element).__name__}; keys and values are wanted")
    return element


def list_keys(parent: h5py.Group | zarr.Group, path: str) -> list[str]:
    """Returns the sorted keys of a mapping, such as layers; [] where there is nothing of that path.

    Raises:
        ValueError: it is an array.
    """
    import h5py
    import zarr

    if path not in parent:
        return []
    found = parent[path]
    if not isinstance(found, h5py.Group | zarr.Group):
        raise ValueError(f"{path} is an array; keys and values are wanted")
    return sorted(found)


def open_values(parent: h5py.Group | zarr.Group, path: str) -> StoredArray | None:
    """Open the numbers of a matrix, unread: a dense one's, or the values that a sparse one holds.

    Returns:
        [N, G] or [values]; None where there is nothing of that path, or a group without values.

    Raises:
        ValueError: the values are a group again.
    """
    import h5py
    import zarr

    for place in (path, f"{path}/data"):
        if place not in parent:
            return None
        found = parent[place]
        if isinstance(found, h5py.Dataset | zarr.Array):
            return found
    raise ValueError(f"{path} is neither an array nor a sparse matrix")
