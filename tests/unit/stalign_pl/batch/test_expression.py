"""Log-normalised expression of sparse counts: the formula, the same bits by two other ways, and the tensor form."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy import sparse

from stalign_pl.batch.expression import log_normalise
from stalign_pl.data.genes.normalise import log_normalise_rows


def counts_of(spots: int = 60, genes: int = 40) -> sparse.csr_matrix:
    """Raw counts, int64; spot 7 is empty."""
    random = np.random.default_rng(0)
    counts = random.poisson(random.gamma(0.4, 3.0, size=(spots, genes)))
    counts[7] = 0
    return sparse.csr_matrix(counts.astype(np.int64))


def test_it_is_log1p_of_the_counts_scaled_to_the_target() -> None:
    counts = counts_of()
    dense = counts.toarray()
    library = np.maximum(dense.sum(axis=1, keepdims=True), 1)
    logged = log_normalise(counts, 1e4)
    assert sparse.isspmatrix_csr(logged)
    assert logged.dtype == np.float64
    np.testing.assert_allclose(logged.toarray(), np.log(1 + dense * 1e4 / library), rtol=1e-12)
    sums = np.expm1(logged.toarray()).sum(axis=1)
    np.testing.assert_allclose(np.delete(sums, 7), 1e4)
    assert sums[7] == 0
    assert logged[7].nnz == 0


def test_each_spot_may_have_a_target_of_its_own() -> None:
    counts, target = counts_of(), np.random.default_rng(1).uniform(50, 5000, 60)
    each = sparse.vstack([log_normalise(counts[spot], float(target[spot])) for spot in range(60)])
    np.testing.assert_array_equal(log_normalise(counts, target).toarray(), each.toarray())


@pytest.mark.parametrize("dtype", [np.int64, np.float64])
@pytest.mark.parametrize("target", [1e4, 3217.4])
def test_the_bits_are_those_of_a_product_with_a_diagonal_matrix(dtype: type[np.generic], target: float) -> None:
    counts = counts_of().astype(dtype)
    library = np.asarray(counts.sum(axis=1)).ravel()
    product = sparse.csr_matrix(sparse.diags(target / np.where(library > 0, library, 1.0)) @ counts).log1p()
    at_least_one = np.maximum(library, 1)
    multiplied = counts.multiply(target / at_least_one[:, None]).tocsr().log1p()
    logged = log_normalise(counts, target)
    for other in (product, multiplied):
        np.testing.assert_array_equal(logged.toarray(), other.toarray())
        np.testing.assert_array_equal(logged.sum(axis=0), other.sum(axis=0))


def test_it_agrees_with_the_tensor_form() -> None:
    counts = counts_of()
    target = np.random.default_rng(2).uniform(50, 5000, 60).astype(np.float32)
    dense = torch.from_numpy(counts.toarray()).float()
    tensors = log_normalise_rows(dense, torch.from_numpy(target), torch.ones_like(dense, dtype=torch.bool))
    np.testing.assert_allclose(log_normalise(counts, target.astype(np.float64)).toarray(), tensors, rtol=0, atol=1e-6)


def test_the_counts_stay_as_they_are() -> None:
    counts = counts_of()
    before = counts.copy()
    log_normalise(counts, 1e4)
    np.testing.assert_array_equal(counts.data, before.data)
    assert counts.dtype == before.dtype


def test_a_place_that_stands_twice_is_added_up() -> None:
    twice = sparse.csr_matrix((np.array([2, 3, 5]), np.array([1, 1, 0]), np.array([0, 3])), (1, 2))
    np.testing.assert_array_equal(
        log_normalise(twice, 10.0).toarray(), log_normalise(sparse.csr_matrix(twice.toarray()), 10.0).toarray()
    )


def test_it_needs_no_torch() -> None:
    code = "import sys, stalign_pl.batch.expression; sys.exit('torch' in sys.modules or 'scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
