"""Clusters of one slide's expression, by which the paired loss draws its negatives."""

from __future__ import annotations

import numpy as np
from scipy import sparse


def cluster_spots(counts: sparse.spmatrix, clusters: int, seed: int) -> np.ndarray:
    """KMeans on 30 principal components of the log-normalised counts of one slide.

    The components are those of the `pca` baseline (`compute_smoothed_pca`, without smoothing). One thread, so that the
    same counts and seed give the same clusters. A slide of fewer distinct spots than `clusters` gets as many as it has.

    Args:
        counts: [N, G] raw counts.
        clusters: how many.
        seed: of KMeans.

    Returns:
        int64 [N], 0 to clusters - 1.

    Raises:
        EvaluationError: the slide has no counts.
    """
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    from stalign_pl.evaluation.baselines import compute_smoothed_pca

    with threadpool_limits(1):
        alone = sparse.csr_matrix(sparse.identity(counts.shape[0], format="csr"))
        scores = compute_smoothed_pca(counts, alone, rounds=0)
        distinct = len(np.unique(scores, axis=0)) if scores.shape[1] else 1
        if distinct == 1:
            return np.zeros(len(scores), np.int64)
        kmeans = KMeans(min(clusters, distinct), n_init=10, random_state=seed)  # pyright: ignore[reportArgumentType]
        return kmeans.fit_predict(scores).astype(np.int64)
