"""Elements of an AnnData, the same from an h5ad and from a zarr group; wrong kinds are errors that name them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import zarr
from scipy import sparse

from data_prep.sources.elements import (
    as_matrix,
    check_indices,
    list_keys,
    open_values,
    read_element,
    read_frame,
    read_mapping,
    read_matrix,
)

COUNTS = np.array([[0, 2, 0], [3, 0, 4]], np.float32)


@pytest.fixture(params=["h5ad", "zarr"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[h5py.File | zarr.Group]:
    table = anndata.AnnData(
        sparse.csr_matrix(COUNTS),
        obs=pd.DataFrame({"label": ["a", "b"]}, index=["s1", "s2"]),
        layers={"dense": COUNTS},
        uns={"keys": {"region": "r"}},
    )
    if request.param == "h5ad":
        table.write_h5ad(tmp_path / "table.h5ad")
        with h5py.File(tmp_path / "table.h5ad", "r") as opened:
            yield opened
    else:
        table.write_zarr(tmp_path / "table.zarr")
        yield zarr.open_group(tmp_path / "table.zarr", mode="r")


def test_elements_of_the_right_kind(file: h5py.File | zarr.Group) -> None:
    assert read_frame(file, "obs").index.tolist() == ["s1", "s2"]
    assert isinstance(read_matrix(file, "X"), sparse.csr_matrix)
    assert np.array_equal(np.asarray(read_matrix(file, "layers/dense")), COUNTS)
    assert read_mapping(file, "uns/keys")["region"] == "r"
    assert list_keys(file, "layers") == ["dense"]
    assert list_keys(file, "none") == []


def test_values_are_opened_unread(file: h5py.File | zarr.Group) -> None:
    values, dense = open_values(file, "X"), open_values(file, "layers/dense")
    assert values is not None
    assert dense is not None
    assert np.asarray(values[0:3]).tolist() == [2, 3, 4]
    assert dense.shape == (2, 3)
    assert open_values(file, "none") is None
    assert open_values(file, "uns/keys") is None


def test_an_element_of_another_kind_is_named(file: h5py.File | zarr.Group) -> None:
    with pytest.raises(ValueError, match="X is read as csr_matrix; a data frame is wanted"):
        read_frame(file, "X")
    with pytest.raises(ValueError, match="obs is read as DataFrame; an array or a sparse matrix is wanted"):
        read_matrix(file, "obs")
    with pytest.raises(ValueError, match="layers/dense is read as ndarray; keys and values are wanted"):
        read_mapping(file, "layers/dense")
    with pytest.raises(ValueError, match="layers/dense is an array"):
        list_keys(file, "layers/dense")
    with pytest.raises(ValueError, match="it has no none"):
        read_element(file, "none")


def test_indices_beyond_the_matrix_are_refused() -> None:
    matrix = sparse.csr_matrix(COUNTS)
    check_indices(matrix)
    matrix.indices[0] = 77
    with pytest.raises(ValueError, match="indices"):
        check_indices(matrix)


def test_another_sparse_form_is_no_matrix_of_an_anndata() -> None:
    with pytest.raises(ValueError, match="X is read as coo_matrix"):
        as_matrix(sparse.coo_matrix(COUNTS), "X")
