"""Niche counts of a slide that is no shard: what `SlideSpots.niche_counts` wants, summed as in training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from stalign_pl.data.member_counts import evened
from stalign_pl.data.niche import WHOLE, NicheConfig
from stalign_pl.errors import ConfigError

if TYPE_CHECKING:
    from scipy import sparse

SLACK = 0.1
"""Ring r reaches r pitches and this much more, which scatter stays below and no next ring of a lattice comes near."""


def niche_counts(counts: Any, apart: sparse.spmatrix, niche: NicheConfig) -> sparse.csr_matrix:
    """Each spot's counts summed over its niche, weighted as `niche` says.

    Args:
        counts: [N, M], raw counts of all spots of one slide, dense or scipy sparse.
        apart: sparse [N, N], distances in pitches of the spots near each other, at least `niche.rings` + SLACK far:
            `cKDTree(xy / pitch).sparse_distance_matrix(cKDTree(xy / pitch), 2.1, output_type="coo_matrix")`.
            With `niche.k` it names those k neighbours alone: which of equally near ones are meant, it has to say.
        niche: of `Preparation.niche`.

    Returns:
        [N, M], whole numbers: only their proportions have a meaning.

    Raises:
        ConfigError: shapes that do not go together, or more than k neighbours of a spot.
    """
    from scipy import sparse

    counts, spots = sparse.csr_matrix(counts), counts.shape[0]
    if apart.shape != (spots, spots):
        raise ConfigError(f"apart is {list(apart.shape)}; spots by spots, {[spots, spots]}, is wanted")
    near = sparse.coo_matrix(apart)
    kept = (near.row != near.col) & (near.data <= niche.rings + SLACK)
    order = np.lexsort((near.col[kept], near.row[kept]))
    row, member, distance = (of[kept][order] for of in (near.row, near.col, near.data))
    used = np.bincount(row, minlength=spots)
    if niche.k is not None and used.max(initial=0) > niche.k:
        spot = int(used.argmax())
        raise ConfigError(f"apart has {used[spot]} neighbours of spot {spot}; the model's niches have {niche.k}")
    weight = niche.member_weights(distance if niche.weights == "distance" else np.ceil(distance - SLACK))
    if not niche.leave_target_out:
        row, member = (np.append(of, np.arange(spots)) for of in (row, member))
        weight, used = np.append(weight, np.full(spots, WHOLE, np.int32)), used + 1
    if niche.even_depth:
        order = np.argsort(row, kind="stable")
        row, member = row[order], member[order]
        weight = evened(weight[order], np.asarray(counts.sum(axis=1)).ravel()[member], used)
    return sparse.csr_matrix((weight, (row, member)), (spots, spots)) @ counts
