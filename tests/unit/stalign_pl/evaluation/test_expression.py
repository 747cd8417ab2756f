"""Normalisation, ridge and gene scores against explicit references."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from stalign_pl.evaluation import ridge
from stalign_pl.evaluation.checks import EvaluationError
from stalign_pl.evaluation.expression import (
    intersect_panels,
    normalise_cp10k,
    predict_constant,
    score_genes,
)


def counts(spots: int = 12, genes: int = 9) -> sparse.csr_matrix:
    dense = np.random.default_rng(1).poisson(1.5, (spots, genes))
    dense[4] = 0
    return sparse.csr_matrix(dense.astype(np.int32))


def planted(
    spots: int, features: int = 20, targets: int = 4, noise: float = 0.5, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Targets linear in the features, with noise: features [N, F], targets [N, T]."""
    generator = np.random.default_rng(seed)
    weights = np.random.default_rng(99).standard_normal((features, targets))
    x = generator.standard_normal((spots, features)) * np.linspace(0.5, 20, features) + 7
    return x, x @ weights / 20 + 3 + noise * generator.standard_normal((spots, targets))


def test_the_library_is_taken_over_the_panel_alone() -> None:
    raw, panel = counts(), np.array([1, 3, 4, 8])
    got = normalise_cp10k(raw, panel)
    assert got.dtype == np.float32
    for spot in range(12):
        row = [int(raw[spot, gene]) for gene in panel]
        expected = [np.log1p(1e4 * value / sum(row)) if sum(row) else 0.0 for value in row]
        np.testing.assert_allclose(got[spot], expected, rtol=1e-6)
    assert not got[4].any()


def test_listed_genes_keep_the_panels_library() -> None:
    raw, panel = counts(), np.array([1, 3, 4, 8])
    np.testing.assert_array_equal(normalise_cp10k(raw, panel, np.array([8, 3])), normalise_cp10k(raw, panel)[:, [3, 1]])
    with pytest.raises(EvaluationError, match=r"\[2\] are not in the panel of 4"):
        normalise_cp10k(raw, panel, np.array([8, 2]))


@pytest.mark.parametrize("panel", [[], [0, 9], [-1, 2], [3, 3]])
def test_an_impossible_panel_is_refused(panel: list[int]) -> None:
    with pytest.raises(EvaluationError, match="gene indices 0 to 8"):
        normalise_cp10k(counts(), np.array(panel, dtype=int))


def test_shared_panel_is_the_sorted_intersection() -> None:
    measured = [np.array([9, 2, 5, 7]), np.array([5, 9, 1]), np.array([0, 9, 5, 2])]
    np.testing.assert_array_equal(intersect_panels(measured), [5, 9])
    with pytest.raises(EvaluationError, match="2 slides have no measured gene in common"):
        intersect_panels([np.array([1]), np.array([2])])
    with pytest.raises(EvaluationError, match="at least one slide"):
        intersect_panels([])


def test_ridge_equals_the_normal_equations() -> None:
    features, targets = planted(300)
    fitted = ridge.fit_ridge(features, targets)
    standard = (features - features.mean(0)) / features.std(0)
    design = np.column_stack([standard, np.ones(300)])  # fewer than 256 features: the projection is a rotation
    penalty = np.diag([fitted.alpha] * 20 + [0.0])
    weights = np.linalg.solve(design.T @ design + penalty, design.T @ targets)
    fresh = planted(50, seed=1)[0]
    expected = np.column_stack([(fresh - features.mean(0)) / features.std(0), np.ones(50)]) @ weights
    np.testing.assert_allclose(fitted.predict(fresh), expected, rtol=1e-5)


def test_alpha_minimises_the_explicit_criterion() -> None:
    features, targets = planted(90, features=40, noise=1.5, seed=3)
    standard = (features - features.mean(0)) / features.std(0)
    centred = targets - targets.mean(0)
    unit = 90 * (standard**2).mean(0).sum() / 40

    def best_alpha(cost: float) -> float:
        errors = {}
        for step in ridge.ALPHA_GRID:
            hat = standard @ np.linalg.solve(standard.T @ standard + step * unit * np.eye(40), standard.T)
            residual = ((centred - hat @ centred) ** 2).sum(0) / (centred**2).sum(0)
            freedom = 1 - cost * (np.trace(hat) + 1) / 90
            errors[step * unit] = residual.mean() / freedom**2 if freedom > 0 else np.inf
        return min(errors, key=errors.get)

    assert best_alpha(1.0) < best_alpha(1.4) < ridge.ALPHA_GRID[-1] * unit  # the two rules differ on these spots
    assert ridge.fit_ridge(features, targets).alpha == pytest.approx(best_alpha(1.4))


@pytest.mark.parametrize("spots", [30, 200, 3000])
def test_ridge_beats_the_constant_on_other_spots(spots: int) -> None:
    features, targets = planted(spots, features=300, noise=1.0)
    fresh, truth = planted(400, features=300, noise=1.0, seed=5)
    names = [f"g{number}" for number in range(4)]
    model = score_genes(ridge.fit_ridge(features, targets).predict(fresh), truth, names)
    floor = score_genes(predict_constant(targets), truth, names)
    assert model.mse < 0.9 * floor.mse if spots > 30 else model.mse < 1.1 * floor.mse
    assert floor.pearson == 0.0


def test_ridge_on_noise_comes_close_to_the_constant() -> None:
    generator = np.random.default_rng(2)
    features, targets = generator.standard_normal((257, 256)), generator.standard_normal((257, 6))
    fresh, truth = generator.standard_normal((500, 256)), generator.standard_normal((500, 6))
    names = list("abcdef")
    model = score_genes(ridge.fit_ridge(features, targets).predict(fresh), truth, names)
    assert model.mse < 1.05 * score_genes(predict_constant(targets), truth, names).mse


def test_a_prediction_depends_on_the_fitting_spots_and_its_own_row_alone() -> None:
    features, targets = planted(200)
    fitted = ridge.fit_ridge(features, targets)
    fresh = planted(60, seed=8)[0]
    alone = np.concatenate([fitted.predict(row[None]) for row in fresh])
    np.testing.assert_allclose(fitted.predict(fresh), alone, rtol=1e-6)


def test_more_spots_than_the_limit_are_drawn_by_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ridge, "MAX_FIT_SPOTS", 150)
    features, targets = planted(400)
    first, again, other = (ridge.fit_ridge(features, targets, seed) for seed in (0, 0, 1))
    assert first.fit_spots == 150
    np.testing.assert_array_equal(first.weights, again.weights)
    assert not np.array_equal(first.weights, other.weights)


def test_features_without_variance_predict_the_mean() -> None:
    targets = planted(50)[1]
    fitted = ridge.fit_ridge(np.ones((50, 8)), targets)
    np.testing.assert_allclose(fitted.predict(np.ones((3, 8))), np.tile(targets.mean(0), (3, 1)), rtol=1e-6)


def test_features_of_another_width_are_refused() -> None:
    fitted = ridge.fit_ridge(*planted(50))
    with pytest.raises(EvaluationError, match="has 8 columns, 20 were expected"):
        fitted.predict(np.ones((3, 8)))


def test_scores_equal_numpy_and_constant_genes_are_counted() -> None:
    generator = np.random.default_rng(4)
    measured, predicted = generator.random((40, 4)), generator.random((40, 4))
    measured[:, 2] = 0.0  # not measured anywhere: r is undefined
    predicted[:, 3] = 0.1  # the model gave up: r is 0
    scores = score_genes(predicted.astype(np.float32), measured, ["a", "b", "c", "d"])
    predicted = predicted.astype(np.float32).astype(float)
    expected = [np.corrcoef(predicted[:, gene], measured[:, gene])[0, 1] for gene in (0, 1)]
    np.testing.assert_allclose(scores.gene_pearson, [*expected, np.nan, 0.0], atol=1e-12)
    np.testing.assert_allclose(scores.gene_mse, np.mean((predicted - measured) ** 2, axis=0))
    assert scores.pearson == pytest.approx(sum(expected) / 3)
    assert scores.mse == pytest.approx(scores.gene_mse.mean())
    assert scores.constant == 1


def test_no_varying_gene_gives_no_correlation() -> None:
    scores = score_genes(np.random.default_rng(0).random((9, 2)), np.zeros((9, 2)), ["a", "b"])
    assert np.isnan(scores.pearson)
    assert scores.constant == 2


def test_scores_refuse_shapes_that_do_not_fit() -> None:
    with pytest.raises(EvaluationError, match=r"slide 'S1'.*measured expression has 2 columns, 3"):
        score_genes(np.zeros((9, 3)), np.zeros((9, 2)), ["a", "b", "c"], slide="S1")
    with pytest.raises(EvaluationError, match="predicted 8, measured 9"):
        score_genes(np.zeros((8, 2)), np.zeros((9, 2)), ["a", "b"])
