"""Raw counts -> log-normalised expression, as sparse matrices on the host. No torch: evaluation and `plan` use it, too.

The same numbers for a batch on its device: `stalign_pl.data.genes.normalise`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from scipy import sparse


def log_normalise(
    counts: sparse.spmatrix, target: float | np.ndarray, library: np.ndarray | None = None
) -> sparse.csr_matrix:
    """Scale each spot's counts to a target sum, then log1p: log(1 + count * (target / library)).

    Args:
        counts: [N, G] raw counts, whole or float, 0 or more. Left as they are.
        target: counts a spot after scaling, above 0; or float [N], each spot's own.
        library: [N], the spots' library sizes, where `counts` holds a part of their genes; the sums of the rows where
            None. A spot without counts has a row of zeros.

    Returns:
        [N, G] float64, natural logarithm.
    """
    from scipy import sparse

    counts = sparse.csr_matrix(counts, dtype=np.float64)
    if library is None:
        library = np.asarray(counts.sum(axis=1)).ravel()
    scale = target / np.where(library > 0, library, 1.0)
    scaled = sparse.csr_matrix(sparse.diags(scale) @ counts)
    return sparse.csr_matrix((np.log1p(scaled.data), scaled.indices, scaled.indptr), shape=scaled.shape)
