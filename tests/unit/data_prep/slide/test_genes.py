from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import sparse

from data_prep.slide.genes import GeneNames, make_gene_axis, make_gene_names, spread_counts
from data_prep.sources.legacy_st.tables import undo_make_unique

BOTH = make_gene_names(["ENSG00000000003.14", "ENSG00000000009", "ENSG00000000005"], ["TP", "DUP", "DUP"])
SYMBOLS = make_gene_names(["DUP", "TP", "ONLY_HERE", "FO538757.1"])
IDS = make_gene_names(["ENSG00000000005.2", "ENSG00000000001"])


def test_names_are_sorted_into_ids_and_symbols() -> None:
    names = make_gene_names(["ENSMUSG00000064339.1", "TP53", "ENSG00000141510", "FO538757.1"])
    assert names.ids == ("ENSMUSG00000064339", "", "ENSG00000141510", "")
    assert names.symbols == ("", "TP53", "", "FO538757.1")
    assert BOTH.ids == ("ENSG00000000003", "ENSG00000000009", "ENSG00000000005")


@pytest.mark.parametrize("order", list(itertools.permutations([BOTH, SYMBOLS, IDS])))
def test_table_is_the_same_for_any_order_of_slides(order: tuple[GeneNames, ...]) -> None:
    axis = make_gene_axis(order)
    assert axis.table.ids == ("ENSG00000000001", "ENSG00000000003", "ENSG00000000005", "ENSG00000000009", "", "")
    assert axis.table.symbols == ("", "TP", "DUP", "DUP", "FO538757.1", "ONLY_HERE")
    assert axis.columns(SYMBOLS).tolist() == [2, 1, 5, 4]  # DUP has two ids and takes the smaller
    assert axis.columns(BOTH).tolist() == [1, 3, 2]
    assert axis.columns(IDS).tolist() == [2, 0]


def test_a_name_of_no_slide_is_an_error() -> None:
    with pytest.raises(KeyError):
        make_gene_axis([IDS]).columns(SYMBOLS)


def test_columns_of_one_gene_are_summed() -> None:
    rng = np.random.default_rng(0)
    counts = rng.poisson(0.7, (20, 6)).astype(np.int32)
    columns, measured = np.array([7, 2, 7, 9, 2, 4]), np.array([2, 4, 5, 7, 9])
    slow = np.zeros((20, 10), np.int64)
    for spot in range(20):
        for column in range(6):
            slow[spot, columns[column]] += counts[spot, column]
    found = spread_counts(measured, columns, sparse.csr_matrix(counts))
    assert np.array_equal(found.toarray(), slow[:, measured])
    assert found.dtype == np.float32
    assert all((np.diff(found.indices[a:b]) > 0).all() for a, b in itertools.pairwise(found.indptr))


@pytest.mark.parametrize("columns", [[2, 4, 5, 9], [9, 2, 5, 4]])
def test_columns_of_their_own_are_moved_and_the_slides_counts_left_alone(columns: list[int]) -> None:
    counts = sparse.csr_matrix(np.random.default_rng(0).poisson(0.7, (20, 4)).astype(np.int32))
    before, measured = counts.toarray(), np.array([2, 4, 5, 7, 9])
    found = spread_counts(measured, np.array(columns), counts)
    slow = np.zeros((20, 10), np.float32)
    slow[:, columns] = before
    assert np.array_equal(found.toarray(), slow[:, measured])
    assert all((np.diff(found.indices[a:b]) > 0).all() for a, b in itertools.pairwise(found.indptr))
    assert np.array_equal(counts.toarray(), before)


def test_repeated_names_of_r_lose_their_number_and_clones_keep_theirs() -> None:
    assert undo_make_unique(["COG8", "COG8.1", "FO538757.1", "A.B"]) == ["COG8", "COG8", "FO538757.1", "A.B"]
