"""What the readers of AnnData tables (h5ad files, SpatialData stores) share: gene names and labels from frames."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from data_prep.genes import GeneNames, gene_names
from data_prep.slide import SlideError
from data_prep.sources.labels import clean_labels

if TYPE_CHECKING:
    import pandas as pd

LABEL_COLUMNS = ("layer", "label", "annotation", "domain")
"""Columns of obs that are taken as labels unless the user names others."""

ID_COLUMNS, SYMBOL_COLUMNS = ("gene_ids",), ("gene_symbols", "symbol")


def frame_genes(var: pd.DataFrame) -> GeneNames:
    """Ids and symbols of a frame of genes, from its index and the columns that 10x's readers write."""
    names = var.index.astype(str).tolist()
    ids = next((var[column].astype(str).tolist() for column in ID_COLUMNS if column in var.columns), None)
    symbols = next((var[column].astype(str).tolist() for column in SYMBOL_COLUMNS if column in var.columns), None)
    if ids is not None:
        return gene_names(ids, symbols if symbols is not None else names)
    return gene_names(names, symbols)


def frame_labels(slide_name: str, origin: str, obs: pd.DataFrame, wanted: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Label columns: those wanted, else those of LABEL_COLUMNS that are there.

    Raises:
        SlideError: a wanted column is absent.
    """
    unknown = [column for column in wanted if column not in obs.columns]
    if unknown:
        raise SlideError(slide_name, f"{origin} has no label column {unknown[0]!r}; obs has {list(obs.columns)}")
    columns = wanted or tuple(column for column in LABEL_COLUMNS if column in obs.columns)
    return {column: clean_labels(obs[column].astype(object)) for column in columns}
