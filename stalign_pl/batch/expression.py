"""Raw counts -> log-normalised expression, as sparse matrices on the host. No torch: evaluation and `plan` use it, too.

The same numbers for a batch on its device: `stalign_pl.data.genes.normalise`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from scipy import sparse


def log_normalise(counts: sparse.csr_matrix, target: float | np.ndarray) -> sparse.csr_matrix:
    """Scale each spot's counts to a target sum, then log1p: log(1 + count * (target / library)).

    A spot's library is the sum of its row, so `counts` holds all genes that make it up. An empty spot's library counts
    as 1: its row stays empty.

    Args:
        counts: [N, G] raw counts, whole or float, 0 or more. Left as they are; entries of one place are added up.
        target: counts a spot after scaling, above 0; or float [N], each spot's own.

    Returns:
        [N, G] float64, with the entries of `counts` in canonical order.
    """
    library = np.asarray(counts.sum(axis=1)).ravel()
    scale = target / np.where(library > 0, library, 1)
    return counts.multiply(scale[:, None]).tocsr().log1p()
