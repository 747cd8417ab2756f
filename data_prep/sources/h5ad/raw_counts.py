"""Where in an AnnData the raw counts are: X, or, where X was normalised, layers['counts'] or .raw."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from scipy import sparse

from data_prep.slide.slide import SlideError

if TYPE_CHECKING:
    import anndata
    import h5py
    import pandas as pd
    import zarr

CountsPlace = Literal["X", "layers['counts']", "raw.X"]
PLACES: tuple[CountsPlace, ...] = get_args(CountsPlace)
BLOCK = 2**20


def counts_place_on_disk(slide_name: str, origin: str, file: h5py.File | zarr.Group) -> CountsPlace:
    """As `counts_place`, from an open h5ad or zarr table; reads values in blocks, up to the first that is no count."""

    def values(name: str) -> Any:
        found = file.get(name)
        return found if found is None or hasattr(found, "shape") else found.get("data")

    held = {"X": values("X"), "layers['counts']": values("layers/counts"), "raw.X": values("raw/X")}
    return _choose(slide_name, origin, held, sorted(file["layers"]) if "layers" in file else [])


def counts_place(slide_name: str, origin: str, table: anndata.AnnData) -> CountsPlace:
    """The first of PLACES that holds whole numbers from 0.

    Args:
        origin: the file, for the message.

    Raises:
        SlideError: none does; says what stands where it looked.
    """
    held = {
        "X": table.X,
        "layers['counts']": table.layers.get("counts"),
        "raw.X": None if table.raw is None else table.raw.X,
    }
    values = {place: matrix.data if sparse.issparse(matrix) else matrix for place, matrix in held.items()}
    return _choose(slide_name, origin, values, sorted(table.layers))


def counts_at(table: anndata.AnnData, place: CountsPlace) -> tuple[Any, pd.DataFrame]:
    """The matrix at a place, [N, G] sparse or dense, and the frame of its genes; .raw has its own."""
    if place == "raw.X":
        return table.raw.X, table.raw.var
    return (table.X if place == "X" else table.layers["counts"]), table.var


def counts_note(place: CountsPlace) -> tuple[str, ...]:
    """What a report should say of counts that are not in X."""
    return () if place == "X" else (f"counts from {place}; X does not hold whole counts",)


def _choose(slide_name: str, origin: str, held: dict[CountsPlace, Any], layers: list[str]) -> CountsPlace:
    seen = []
    for place in PLACES:
        if held[place] is None:
            seen.append(f"{place} is absent")
            continue
        if held[place].dtype.kind not in "biuf":
            seen.append(f"{place} holds {held[place].dtype}, no numbers")
            continue
        wrong = _first_that_is_no_count(held[place])
        if wrong is None:
            return place
        seen.append(f"{place} holds {wrong:g}")
    raise SlideError(
        slide_name,
        f"{origin}: no raw counts; whole numbers from 0 are wanted, not normalised or log values: "
        f"{', '.join(seen)} (layers: {layers})",
    )


def _first_that_is_no_count(values: Any) -> float | None:
    rows = BLOCK if len(values.shape) == 1 else max(1, BLOCK // max(1, values.shape[1]))
    for start in range(0, values.shape[0], rows):
        block = np.asarray(values[start : start + rows])
        wrong = ~np.isfinite(block) | (block < 0) | (block != np.floor(block))
        if wrong.any():
            return float(block[wrong][0])
    return None
