"""A slide's raw counts -> log-normalised expression: what the baselines and the gene read-out are computed on.

The formula stands in `stalign_pl.batch.expression`; `stalign_pl.data.genes.normalise` is the same on tensors, for what
the model is shown. A test holds them together.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from stalign_pl.batch.expression import log_normalise
from stalign_pl.evaluation.checks import EvaluationError


def sum_counts(counts: sparse.spmatrix) -> np.ndarray:
    """The library size of each spot: float64 [N], the sum of its counts [N, G]."""
    return np.asarray(sparse.csr_matrix(counts).sum(axis=1, dtype=np.float64)).ravel()


def find_median_library(library: np.ndarray) -> float:
    """The median library size of the spots that have any counts.

    Args:
        library: [N], the spots' library sizes.

    Raises:
        EvaluationError: no spot has any.
    """
    if not library.any():
        raise EvaluationError("the slide has no counts")
    return float(np.median(library[library > 0]))


def log_normalise_slide(
    counts: sparse.spmatrix, target_sum: float | None = None, library: np.ndarray | None = None
) -> sparse.csr_matrix:
    """log1p of the counts, each spot's scaled to `target_sum`; a spot without counts is all zeros.

    Args:
        counts: [N, G] raw counts.
        target_sum: what a spot's library is scaled to; the median library where None.
        library: [N], the spots' library sizes, where `counts` holds a part of their genes; its sums where None.

    Returns:
        [N, G] float64, natural logarithm.

    Raises:
        EvaluationError: there are no counts to take the library sizes, or their median, from.
    """
    counts = sparse.csr_matrix(counts, dtype=np.float64)
    if library is None:
        library = sum_counts(counts)
        if not library.any():
            raise EvaluationError("the slide has no counts")
    if target_sum is None:
        target_sum = find_median_library(library)
    return log_normalise(counts, target_sum, library)
