"""What obs and var of an AnnData table (an h5ad, a SpatialData store's table) say of genes and spots."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from data_prep.slide.genes import GeneNames, make_gene_names
from data_prep.slide.slide import SlideError
from data_prep.sources.reading import clean_labels

if TYPE_CHECKING:
    import pandas as pd

LABEL_COLUMNS = ("layer", "label", "annotation", "domain")
"""Columns of obs that are taken as labels unless the user names others."""

ID_COLUMNS, SYMBOL_COLUMNS = ("gene_ids",), ("gene_symbols", "symbol")


def read_frame_genes(var: pd.DataFrame) -> GeneNames:
    """Read ids and symbols of a frame of genes, from its index and the columns that 10x's readers write."""
    names = var.index.astype(str).tolist()
    ids = next((var[column].astype(str).tolist() for column in ID_COLUMNS if column in var.columns), None)
    symbols = next((var[column].astype(str).tolist() for column in SYMBOL_COLUMNS if column in var.columns), None)
    if ids is not None:
        return make_gene_names(ids, symbols if symbols is not None else names)
    return make_gene_names(names, symbols)


def read_frame_labels(
    slide_name: str, origin: str, obs: pd.DataFrame, wanted: tuple[str, ...]
) -> dict[str, np.ndarray]:
    """Read label columns, [N] str each: those wanted, else those of LABEL_COLUMNS that are there.

    Raises:
        SlideError: a wanted column is absent.
    """
    unknown = [column for column in wanted if column not in obs.columns]
    if unknown:
        raise SlideError(slide_name, f"{origin} has no label column {unknown[0]!r}; obs has {list(obs.columns)}")
    columns = wanted or tuple(column for column in LABEL_COLUMNS if column in obs.columns)
    return {column: clean_labels(obs[column].astype(object)) for column in columns}


def select_tissue(
    slide_name: str, origin: str, obs: pd.DataFrame, kept: np.ndarray
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Returns bool [N], those of `kept` that obs['in_tissue'], if there is one, has on the tissue; and a note.

    Raises:
        SlideError: it holds something else than 0 and 1.
    """
    if "in_tissue" not in obs:
        return kept, ()
    try:
        flags = obs["in_tissue"].to_numpy().astype(float)
    except ValueError as error:
        raise SlideError(slide_name, f"{origin}: obs['in_tissue']: {error}; 0 and 1 are wanted") from error
    strange = flags[(flags != 0) & (flags != 1)]
    if len(strange):
        raise SlideError(slide_name, f"{origin}: obs['in_tissue'] holds {strange[0]:g}; 0 and 1 are wanted")
    off = int((kept & (flags == 0)).sum())
    return kept & (flags == 1), (f"{off} spots off the tissue left out by obs['in_tissue']",) if off else ()


def read_frame_grid(slide_name: str, origin: str, frame: pd.DataFrame) -> np.ndarray | None:
    """Read array_col and array_row, int32 [N, 2], Space Ranger's columns; None where they are absent.

    Raises:
        SlideError: a value that is no whole number.
    """
    if not {"array_row", "array_col"} <= set(frame.columns):
        return None
    try:
        places = frame[["array_col", "array_row"]].to_numpy().astype(float)
    except ValueError as error:
        raise SlideError(slide_name, f"{origin}: array_col, array_row: {error}") from error
    wrong = (places != np.round(places)).any(axis=1)  # NaN too
    if wrong.any():
        spot, place = str(frame.index[wrong][0]), places[wrong][0].tolist()
        raise SlideError(
            slide_name, f"{origin}: array_col, array_row of {spot!r} are {place}; whole numbers are wanted"
        )
    return places.astype(np.int32)
