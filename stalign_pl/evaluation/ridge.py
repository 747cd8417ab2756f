"""The primary gene read-out: closed-form ridge regression on principal components."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stalign_pl.evaluation.checks import check_finite, check_same_rows
from stalign_pl.evaluation.components import Components, fit_components

MAX_FIT_SPOTS = 20_000
COMPONENTS = 256
ALPHA_GRID = tuple(10.0 ** (step / 2) for step in range(-8, 5))
"""1e-4 .. 1e2, two a decade, in units of N times the mean variance of a component."""
DEGREES_OF_FREEDOM_COST = 1.4


@dataclass(frozen=True)
class Ridge:
    """A fitted regression.

    Attributes:
        components: standardising and projection of the features.
        weights: [C, T] float64, on the component scores.
        intercept: [T] float64, the mean of the fitting targets (scores are centred, so it is not penalised).
        alpha: the penalty in `||Y - ZW||^2 + alpha ||W||^2`.
        fit_spots: number of spots it was fitted on.
    """

    components: Components
    weights: np.ndarray
    intercept: np.ndarray
    alpha: float
    fit_spots: int

    def predict(self, features: np.ndarray) -> np.ndarray:
        """[N, F] features to [N, T] float32 targets.

        Raises:
            EvaluationError: another number of features than at the fit, or NaN or infinity.
        """
        return (self.components.scores(features) @ self.weights + self.intercept).astype(np.float32)


def fit_ridge(features: np.ndarray, targets: np.ndarray, seed: int = 0) -> Ridge:
    """Standardise, PCA-256 (min(256, F, N - 1)), ridge; everything learnt from these spots alone.

    The penalty is one for all targets: the value of a fixed grid that minimises generalised cross-validation
    (Golub, Heath and Wahba 1979), each degree of freedom counted 1.4 times (Kim and Gu 2004). The grid is relative to
    N and to the features' scale, so one rule serves 200 and 20,000 spots; the factor 1.4 refuses fits that use up
    most of the spots' freedom (plain cross-validation degenerates at 200 spots with 199 components) and leans
    against the optimism that near-duplicate neighbouring spots bring. Targets count relative to their variance.

    Args:
        features: [N, F], finite.
        targets: [N, T], finite.
        seed: of the draw of MAX_FIT_SPOTS spots where there are more.

    Raises:
        EvaluationError: shapes that do not fit, or NaN or infinity.
    """
    features, targets = check_finite(features, "the features"), check_finite(targets, "the targets")
    check_same_rows(features=features, targets=targets)
    if len(features) > MAX_FIT_SPOTS:
        drawn = np.sort(np.random.default_rng(seed).choice(len(features), MAX_FIT_SPOTS, replace=False))
        features, targets = features[drawn], targets[drawn]
    components = fit_components(features, COMPONENTS)
    scores = components.scores(features)
    intercept = targets.mean(axis=0, dtype=np.float64)
    projected = scores.T @ (targets - intercept)  # [C, T]; the columns of the scores are orthogonal
    energy = components.variance * len(features)  # [C], their squared lengths
    alpha = _choose_alpha(projected, energy, ((targets - intercept) ** 2).sum(axis=0), len(features))
    return Ridge(components, projected / (energy + alpha)[:, None], intercept, alpha, len(features))


def _choose_alpha(projected: np.ndarray, energy: np.ndarray, total: np.ndarray, spots: int) -> float:
    """The grid's penalty of least generalised cross-validation error, the larger one of equals.

    Args:
        projected: [C, T] Z'Y.
        energy: [C], the diagonal of Z'Z.
        total: [T], sums of squares of the centred targets.
        spots: N.
    """
    if len(energy) == 0:
        return 0.0
    varying = total > 0
    explained = (projected**2 / energy[:, None])[:, varying] / total[varying]  # [C, T] shares of the sum of squares
    best, best_error = ALPHA_GRID[-1] * energy.mean(), np.inf
    for step in reversed(ALPHA_GRID):
        alpha = step * energy.mean()
        kept = energy / (energy + alpha)
        freedom = 1 - DEGREES_OF_FREEDOM_COST * (kept.sum() + 1) / spots
        if freedom <= 0:
            break  # every smaller penalty uses more freedom still
        residual = (1 - ((1 - (1 - kept) ** 2)[:, None] * explained).sum(axis=0)).mean() if varying.any() else 0.0
        if residual / freedom**2 < best_error:
            best, best_error = alpha, residual / freedom**2
    return float(best)
