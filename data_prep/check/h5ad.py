"""Check of a slide's h5ad against the arrays that the loader reads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from data_prep.check.problem import Problem
from stalign_pl.shard_format import INDEX_COLUMN, SlideRecord


def check_h5ad(
    folder: Path, record: SlideRecord, index: np.ndarray, pairs: np.ndarray, panel: np.ndarray
) -> Iterator[Problem]:
    """Check that the h5ad opens and has the arrays' spots, genes and counts and the record's label columns."""
    import anndata
    from scipy import sparse

    try:
        table = anndata.read_h5ad(folder / record.h5ad)
    except (OSError, KeyError, ValueError) as error:
        yield Problem(record.h5ad, f"cannot be read: {error}")
        return
    if table.shape != (record.spots, record.measured_genes):
        yield Problem(record.h5ad, f"has shape {table.shape}, {(record.spots, record.measured_genes)} is wanted")
        return
    if not np.array_equal(table.var["gene_index"].to_numpy(), panel):
        yield Problem(record.h5ad, f"var['gene_index'] differs from {record.panel}")
    if not (table.obs_names.is_unique and table.var_names.is_unique):
        yield Problem(record.h5ad, "names of spots or genes are not unique")
    if not isinstance(table.X, sparse.spmatrix | sparse.sparray):
        yield Problem(record.h5ad, f"X is a {type(table.X).__name__}, a sparse matrix is wanted")
        return
    counts = sparse.csr_matrix(table.X)
    counts.sort_indices()
    bounds = np.append(index[:, INDEX_COLUMN["counts_start"]], index[-1, INDEX_COLUMN["counts_stop"]])
    if not np.array_equal(counts.indptr, bounds):
        spot = int(np.flatnonzero(counts.indptr != bounds)[0]) - 1
        yield Problem(record.h5ad, f"X differs from {record.counts} in how many genes a spot has", max(spot, 0))
    else:
        wrong = (panel[counts.indices] != pairs[0]) | (counts.data != pairs[1])
        for spot in np.unique(np.searchsorted(bounds, np.flatnonzero(wrong), side="right") - 1):
            yield Problem(record.h5ad, f"X differs from {record.counts}", int(spot))
    for column, classes in record.labels.items():
        held = table.obs[column].nunique() if column in table.obs else None
        if held != classes:
            yield Problem(record.h5ad, f"label column {column!r} has {held} classes, the manifest says {classes}")
