"""Where in an AnnData the raw counts are: X, or, where X was normalised, layers['counts'] or .raw."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from data_prep.slide.slide import SlideError
from data_prep.slide.validation import Matrix
from data_prep.sources.elements import StoredArray, as_frame, as_matrix, list_keys, open_values

if TYPE_CHECKING:
    import anndata
    import h5py
    import pandas as pd
    import zarr

CountsPlace = Literal["X", "layers['counts']", "raw.X"]
PLACES: tuple[CountsPlace, ...] = get_args(CountsPlace)
PATHS: dict[CountsPlace, str] = {"X": "X", "layers['counts']": "layers/counts", "raw.X": "raw/X"}
"""Place to its path in an h5ad or a zarr table."""

BLOCK = 2**20


def find_counts_on_disk(slide_name: str, origin: str, file: h5py.File | zarr.Group) -> CountsPlace:
    """Find as `find_counts`, in an open h5ad or zarr table; reads in blocks, up to the first that is no count."""
    held: dict[CountsPlace, StoredArray | None] = {place: open_values(file, path) for place, path in PATHS.items()}
    return _choose(slide_name, origin, held, list_keys(file, "layers"))


def find_counts(slide_name: str, origin: str, table: anndata.AnnData) -> CountsPlace:
    """Find the first of PLACES that holds whole numbers from 0.

    Args:
        slide_name: for the message.
        origin: the file, for the message.
        table: the AnnData.

    Raises:
        SlideError: none does; says what stands where it looked.
        ValueError: what stands there is no matrix.
    """
    held: dict[CountsPlace, object] = {
        "X": table.X,
        "layers['counts']": table.layers.get("counts"),
        "raw.X": None if table.raw is None else table.raw.X,
    }
    values: dict[CountsPlace, StoredArray | None] = {
        place: None if matrix is None else _values_of(as_matrix(matrix, place)) for place, matrix in held.items()
    }
    return _choose(slide_name, origin, values, sorted(table.layers))


def take_counts(table: anndata.AnnData, place: CountsPlace) -> tuple[Matrix, pd.DataFrame]:
    """Returns the matrix at a place, [N, G] sparse or dense, and the frame of its genes; .raw has its own.

    Raises:
        ValueError: there is none.
    """
    if place != "raw.X":
        matrix = table.X if place == "X" else table.layers["counts"]
        return as_matrix(matrix, place), as_frame(table.var, "var")
    if table.raw is None:
        raise ValueError("it has no raw")
    return as_matrix(table.raw.X, place), as_frame(table.raw.var, "raw.var")


def describe_counts(place: CountsPlace) -> tuple[str, ...]:
    """Returns what a report should say of counts that are not in X."""
    return () if place == "X" else (f"counts from {place}; X does not hold whole counts",)


def _choose(
    slide_name: str, origin: str, held: dict[CountsPlace, StoredArray | None], layers: list[str]
) -> CountsPlace:
    found = []
    for place in PLACES:
        values = held[place]
        if values is None:
            found.append(f"{place} is absent")
            continue
        if values.dtype.kind not in "biuf":
            found.append(f"{place} holds {values.dtype}, no numbers")
            continue
        wrong = _find_no_count(values)
        if wrong is None:
            return place
        found.append(f"{place} holds {wrong:g}")
    raise SlideError(
        slide_name,
        f"{origin}: no raw counts; whole numbers from 0 are wanted, not normalised or log values: "
        f"{', '.join(found)} (layers: {layers})",
    )


def _values_of(matrix: Matrix) -> np.ndarray:
    return matrix if isinstance(matrix, np.ndarray) else matrix.data


def _find_no_count(values: StoredArray) -> float | None:
    """Returns the first value that is no whole number from 0; None where there is none. Reads block by block."""
    rows = BLOCK if len(values.shape) == 1 else max(1, BLOCK // max(1, values.shape[1]))
    for start in range(0, values.shape[0], rows):
        block = np.asarray(values[start : start + rows])
        wrong = ~np.isfinite(block) | (block < 0) | (block != np.floor(block))
        if wrong.any():
            return float(block[wrong][0])
    return None
