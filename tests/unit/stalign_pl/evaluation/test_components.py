"""Principal components against numpy's SVD, in every branch of the solver."""

from __future__ import annotations

import numpy as np
import pytest

from stalign_pl.evaluation import components
from stalign_pl.evaluation.components import fit_components


def reference_scores(matrix: np.ndarray, count: int, standardise: bool) -> np.ndarray:
    centred = matrix - matrix.mean(0)
    if standardise:
        centred = centred / np.where(matrix.std(0) > 0, matrix.std(0), 1.0)
    left, singular, _ = np.linalg.svd(centred, full_matrices=False)
    return left[:, :count] * singular[:count]


@pytest.mark.parametrize("standardise", [True, False])
@pytest.mark.parametrize("shape", [(200, 40), (40, 200), (90, 88)])
@pytest.mark.parametrize("dense_limit", [1024, 10])  # all eigenvectors; Lanczos
def test_scores_equal_the_singular_value_decomposition(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int], standardise: bool, dense_limit: int
) -> None:
    monkeypatch.setattr(components, "DENSE_LIMIT", dense_limit)
    generator = np.random.default_rng(0)
    matrix = generator.standard_normal(shape) * np.linspace(4, 0.5, shape[1]) + 3
    fitted = fit_components(matrix, 5, standardise)
    scores, expected = fitted.scores(matrix), reference_scores(matrix, 5, standardise)
    np.testing.assert_allclose(np.abs((scores * expected).sum(0)), (expected**2).sum(0), rtol=1e-8)
    np.testing.assert_allclose(fitted.variance, scores.var(0), rtol=1e-8)
    np.testing.assert_allclose(fitted.axes.T @ fitted.axes, np.eye(5), atol=1e-8)
    assert np.array_equal(fitted.axes, fit_components(matrix, 5, standardise).axes)


@pytest.mark.parametrize(("shape", "expected"), [((50, 4), 4), ((6, 40), 5), ((50, 60), 30)])
def test_number_of_components_is_cut_to_the_data(shape: tuple[int, int], expected: int) -> None:
    matrix = np.random.default_rng(1).standard_normal(shape)
    assert fit_components(matrix, 30).axes.shape == (shape[1], expected)


def test_components_of_rounding_are_dropped() -> None:
    generator = np.random.default_rng(2)
    low_rank = generator.standard_normal((300, 3)) @ generator.standard_normal((3, 50)) + 10
    assert fit_components(low_rank.astype(np.float32), 30).axes.shape[1] == 3


def test_constant_columns_do_no_harm() -> None:
    matrix = np.random.default_rng(3).standard_normal((60, 5)).astype(np.float32)
    matrix[:, 2] = 1.1
    fitted = fit_components(matrix, 30)
    assert fitted.axes.shape[1] == 4
    assert np.isfinite(fitted.scores(matrix)).all()
