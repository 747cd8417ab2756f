"""Log-normalisation of arrays against a dense reference, and against that of tensors, which the model is shown."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import sparse

from stalign_pl.data.genes.normalise import log_normalise_rows
from stalign_pl.evaluation.checks import EvaluationError
from stalign_pl.evaluation.normalise import find_median_library, log_normalise_slide, sum_counts


def draw_counts() -> np.ndarray:
    """Counts [30, 40]; spot 4 has none."""
    counts = np.random.default_rng(0).negative_binomial(1, 0.1, (30, 40))
    counts[4] = 0
    return counts


@pytest.mark.parametrize("target", [None, 1e4])
def test_it_equals_a_dense_reference(target: float | None) -> None:
    counts = draw_counts()
    library = counts.sum(1)
    wanted = np.median(library[library > 0]) if target is None else target
    found = log_normalise_slide(sparse.csr_matrix(counts), target)
    np.testing.assert_allclose(found.toarray(), np.log1p(counts * wanted / np.maximum(library, 1)[:, None]), rtol=1e-13)
    assert find_median_library(sum_counts(sparse.csr_matrix(counts))) == np.median(library[library > 0])


def test_the_library_may_be_that_of_more_genes() -> None:
    counts = sparse.csr_matrix(draw_counts())
    whole, part = log_normalise_slide(counts, 1e4), log_normalise_slide(counts[:, [3, 1]], 1e4, sum_counts(counts))
    np.testing.assert_array_equal(part.toarray(), whole[:, [3, 1]].toarray())
    nothing = log_normalise_slide(counts[:, [3, 1]] * 0, 1e4, sum_counts(counts))
    assert nothing.toarray().tolist() == [[0.0, 0.0]] * 30


@pytest.mark.parametrize("target", [None, 1e4])
def test_a_slide_without_counts_is_refused(target: float | None) -> None:
    with pytest.raises(EvaluationError, match="no counts"):
        log_normalise_slide(sparse.csr_matrix((3, 4)), target)


@pytest.mark.parametrize("target", [400.0, 1e4])
def test_arrays_and_tensors_are_normalised_alike(target: float) -> None:
    counts = draw_counts()
    tensor = log_normalise_rows(
        torch.tensor(counts, dtype=torch.float32), torch.full((30,), target), torch.ones(30, 40, dtype=torch.bool)
    )
    array = log_normalise_slide(sparse.csr_matrix(counts), target).toarray()
    np.testing.assert_allclose(tensor.numpy(), array, rtol=1e-6, atol=1e-6)
