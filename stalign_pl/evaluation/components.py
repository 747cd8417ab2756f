"""Principal components, the same deterministic ones for clustering, regression and the baselines."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stalign_pl.evaluation.checks import check_finite

DENSE_LIMIT = 1024
"""Up to this many rows or columns (the smaller of the two) all eigenvectors are computed and the first ones kept."""

FLOAT32 = float(np.finfo(np.float32).eps)
"""Embeddings are made in float32, so anything below this, relatively, is rounding and no signal."""


@dataclass(frozen=True)
class Components:
    """A fitted projection: (x - mean) / scale, then onto `axes`.

    Attributes:
        mean: [D] float64.
        scale: [D] float64; 1 for a constant column, and everywhere without standardising.
        axes: [D, C] float64, orthonormal; each one's largest entry is positive. C may be smaller than was asked for.
        variance: [C] float64, descending: variance (divided by N) of the fitting rows along each axis.
    """

    mean: np.ndarray
    scale: np.ndarray
    axes: np.ndarray
    variance: np.ndarray

    def scores(self, matrix: np.ndarray) -> np.ndarray:
        """Project [N, D] onto the axes: [N, C] float64."""
        matrix = check_finite(matrix, "the matrix to project", columns=len(self.mean))
        return (matrix - self.mean) / self.scale @ self.axes


def fit_components(matrix: np.ndarray, count: int, standardise: bool = True) -> Components:
    """First min(count, D, N - 1) principal components of [N, D], fewer where its rank is lower.

    Axes along which the rows differ by rounding alone are dropped (singular value below N or D times float32's epsilon
    times the largest, the rule of a numerical rank): a tied mixture does not care for the scale of an axis and would
    weigh rounding like signal. A matrix of equal rows gives C = 0. Computed in float64 without a random start, so that
    two calls agree bit for bit.

    Args:
        matrix: [N, D], finite.
        count: number of components wanted, at least 1.
        standardise: divide each column by its standard deviation first.

    Raises:
        EvaluationError: not a finite [N, D] matrix.
    """
    matrix = check_finite(matrix, "the matrix of the principal components").astype(np.float64)
    mean = matrix.mean(axis=0)
    spread = matrix.std(axis=0)
    constant = spread <= FLOAT32 * np.abs(mean)
    centred = np.where(constant, 0.0, matrix - mean)
    scale = np.where(constant | (not standardise), 1.0, spread)
    centred /= scale
    wanted = min(count, matrix.shape[1], len(matrix) - 1)
    if wanted < 1 or not centred.any():
        return Components(mean, scale, np.zeros((matrix.shape[1], 0)), np.zeros(0))
    values, axes = _find_leading(centred, wanted)
    keep = np.sqrt(values) > max(matrix.shape) * FLOAT32 * np.sqrt(values[0])
    axes = axes[:, keep]
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    return Components(mean, scale, axes, values[keep] / len(matrix))


def _find_leading(centred: np.ndarray, wanted: int) -> tuple[np.ndarray, np.ndarray]:
    """Squared singular values [C], descending, and right singular vectors [D, C] of a centred [N, D] matrix."""
    from scipy.linalg import eigh
    from scipy.sparse.linalg import LinearOperator, eigsh

    tall = len(centred) >= centred.shape[1]
    size = min(centred.shape)
    left = centred if tall else centred.T  # [larger, size]; its Gram matrix is [size, size]
    if size <= DENSE_LIMIT or wanted > size // 8:
        values, vectors = eigh(left.T @ left, subset_by_index=(size - wanted, size - 1))
    else:  # a thin set of a large matrix: Lanczos, from a fixed start
        gram = LinearOperator((size, size), matvec=lambda v: left.T @ (left @ v), dtype=np.float64)  # pyright: ignore[reportCallIssue]
        values, vectors = eigsh(gram, k=wanted, v0=np.random.default_rng(0).standard_normal(size))
    order = np.argsort(-values, kind="stable")
    values, vectors = np.maximum(values[order], 0.0), vectors[:, order]
    if tall:
        return values, vectors
    lengths = np.sqrt(np.where(values > 0, values, 1.0))
    return values, centred.T @ vectors / lengths
