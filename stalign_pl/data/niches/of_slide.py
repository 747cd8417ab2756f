"""Niche counts of a slide that is no shard, for `SlideSpots.niche_counts`, summed as in training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stalign_pl.arrays import check_numbers, check_raw
from stalign_pl.data.niches.config import WHOLE, NicheConfig
from stalign_pl.data.niches.members import normalise_depth
from stalign_pl.errors import ConfigError

if TYPE_CHECKING:
    from scipy import sparse

SLACK = 0.1
"""Ring r reaches r + SLACK pitches. Up to ring 4 no place of an array's next ring is that near."""

NEAREST = (0.7, 1.3)
"""Range of the median distance to the nearest neighbour, pitches; outside it `apart` is in another unit."""


def sum_niche_counts(
    counts: np.ndarray | sparse.spmatrix, apart: sparse.spmatrix, niche: NicheConfig
) -> sparse.csr_matrix:
    """Sum the counts over each spot's niche, weighted as `niche` says.

    The sums are those of training if rings are those of an array (`data_prep build --rings`, the default), at most
    four. On Visium positions may be those in the image; on legacy ST arrays, whose spots scatter, they must be the
    spots' places on the array.

    Args:
        counts: [N, M], raw counts of all spots of one slide, dense or scipy sparse. With `niche.even_depth`, of all
            genes that the slide measured: their sum is a spot's depth.
        apart: sparse [N, N], distances in pitches of the spots near each other, at least `niche.rings` + SLACK far:
            `cKDTree(xy / pitch).sparse_distance_matrix(cKDTree(xy / pitch), 2.1, output_type="coo_matrix")`.
            With `niche.k` it holds those k neighbours alone. Of equally near ones training takes every other one by
            angle, clockwise from +x: 0, 120 and 240 degrees are the 3 nearest on Visium.
        niche: of `Preparation.niche`.

    Returns:
        [N, M], whole numbers, of which only the proportions have a meaning.

    Raises:
        ConfigError: counts that are not raw; distances in another unit, or that do not reach as far as the niche; more
            than k neighbours of a spot; whole rings in which one of two spots lacks the other; shapes that do not go
            together.
    """
    from scipy import sparse

    if not isinstance(niche, NicheConfig):
        raise ConfigError(f"niche is a {type(niche).__name__}; a NicheConfig, model.preparation.niche, is wanted")
    raw = _check_counts(counts)
    spots = counts.shape[0]
    row, member, distance = _find_near(_check_distances(apart, spots), niche.rings)
    used = np.bincount(row, minlength=spots)
    if niche.k is None:
        _refuse_one_sided(row, member, spots)
    elif used.max(initial=0) > niche.k:
        spot = int(used.argmax())
        raise ConfigError(
            f"apart has {used[spot]} neighbours of spot {spot}; the model's niches have {niche.k}: keep the nearest"
        )
    ring = np.maximum(np.ceil(distance - SLACK), 1)
    weight = niche.member_weights(distance if niche.weights == "distance" else ring)
    if not niche.leave_target_out:
        row, member = (np.append(of, np.arange(spots)) for of in (row, member))
        weight, used = np.append(weight, np.full(spots, WHOLE, np.int32)), used + 1
    if niche.even_depth:
        order = np.argsort(row, kind="stable")
        row, member = row[order], member[order]
        weight = normalise_depth(weight[order], np.asarray(raw.sum(axis=1)).ravel()[member], used)
    return sparse.csr_matrix((weight, (row, member)), (spots, spots)) @ raw


def _check_counts(counts: np.ndarray | sparse.spmatrix) -> sparse.csr_matrix:
    """Counts as CSR int64; raises ConfigError for others than raw ones, [N, M]."""
    from scipy import sparse

    check_numbers(counts, "counts", "N, M", or_sparse=True)
    if isinstance(counts, np.ndarray):
        counts = counts.astype(np.float64)  # scipy knows neither half precision nor another byte order
    raw = sparse.csr_matrix(counts)
    check_raw(raw.data, "counts")
    return sparse.csr_matrix(raw.astype(np.int64))


def _check_distances(apart: sparse.spmatrix, spots: int) -> sparse.coo_matrix:
    """Distances as COO; raises ConfigError for anything else than a sparse matrix of numbers, [spots, spots]."""
    from scipy import sparse

    what = f"a {type(apart).__name__}"
    if sparse.issparse(apart):
        dtype = apart.dtype  # pyright: ignore[reportAttributeAccessIssue] (scipy declares it on the formats alone)
        if apart.shape == (spots, spots) and dtype.kind in "uif":
            return sparse.coo_matrix(apart)
        what = f"{dtype} {list(apart.shape)}"
    raise ConfigError(
        f"apart is {what}; a scipy sparse matrix of distances, spots by spots, {[spots, spots]}, is wanted"
    )


def _refuse_one_sided(row: np.ndarray, member: np.ndarray, spots: int) -> None:
    """Raise ConfigError where a spot is a neighbour of one that is not its own."""
    alone = np.setdiff1d(row * spots + member, member * spots + row)
    if len(alone):
        one, other = divmod(int(alone[0]), spots)
        raise ConfigError(
            f"apart has spot {other} near spot {one} and not the other way round; in niches of whole rings each of two "
            f"neighbours has the other: take apart + apart.T of a half matrix"
        )


def _find_near(apart: sparse.coo_matrix, rings: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find the pairs within the rings.

    Returns:
        Spot, neighbour and distance (pitches) of each pair, spot by spot; int64, int64, float [pairs].

    Raises:
        ConfigError: no distance, one that is negative or not finite, another unit, or rings that are not covered.
    """
    others = apart.row != apart.col
    row, member, distance = (of[others] for of in (apart.row.astype(np.int64), apart.col.astype(np.int64), apart.data))
    if len(distance) == 0 or not np.isfinite(distance).all() or distance.min() < 0:
        raise ConfigError("apart has no distance between two spots, or one that is negative or not finite")
    order = np.lexsort((member, row))
    row, member, distance = row[order], member[order], distance[order]
    if ((np.diff(row) == 0) & (np.diff(member) == 0)).any():
        raise ConfigError("apart names a pair of spots twice")
    nearest = float(np.median(np.minimum.reduceat(distance, np.flatnonzero(np.diff(row, prepend=-1)))))
    if not NEAREST[0] <= nearest <= NEAREST[1]:
        raise ConfigError(
            f"apart has the nearest spot {nearest:.3g} away (median); distances in pitches are wanted, "
            f"1 from a spot to the next"
        )
    if distance.max() <= rings - 1 + SLACK:
        raise ConfigError(f"apart reaches {distance.max():.3g} pitches; the model's niches reach {rings}")
    kept = distance <= rings + SLACK
    return row[kept], member[kept], distance[kept]
