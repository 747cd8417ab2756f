"""Spatial domains: does an embedding, clustered without labels, find the regions that an anatomist drew?

The scores are scikit-learn's. torchmetrics has both in float32 alone; its ARI of a slide of 120,000 spots overflows,
and its NMI of one cluster with itself is 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from stalign_pl.evaluation.checks import EvaluationError, check_finite, check_same_rows
from stalign_pl.evaluation.components import fit_components

Readout = Literal["tied_gmm", "kmeans"]

COMPONENTS = 30
REG_COVAR = 1e-6
"""Added to the tied covariance's diagonal; components are in units of one standardised column, so 1e-6 is tiny."""
N_INIT = 1
"""Starts a seed. One, because the spread over seeds is part of the result and the best of many starts would hide it."""


@dataclass(frozen=True)
class DomainResult:
    """Scores of one embedding of one slide, a value a seed, over the labelled spots alone.

    Attributes:
        ari: adjusted Rand index (Hubert and Arabie 1985) of seeds 0, 1, ...; chance 0, perfect 1.
        nmi: normalised mutual information (arithmetic mean of the entropies) of the same seeds; 0 to 1.
        predicted: [N] int64, the domain of every spot, unlabelled ones too, by **seed 0** (never by the best seed).
        k: number of domains asked for.
        scored: number of labelled spots.
    """

    ari: tuple[float, ...]
    nmi: tuple[float, ...]
    predicted: np.ndarray
    k: int
    scored: int

    @property
    def mean(self) -> float:
        """Mean ARI over the seeds: the primary figure."""
        return float(np.mean(self.ari))

    @property
    def sd(self) -> float:
        """Sample standard deviation of the ARI over the seeds; NaN with one seed."""
        return _compute_sample_sd(self.ari)

    @property
    def nmi_mean(self) -> float:
        """Mean NMI over the seeds."""
        return float(np.mean(self.nmi))

    @property
    def nmi_sd(self) -> float:
        """Sample standard deviation of the NMI over the seeds; NaN with one seed."""
        return _compute_sample_sd(self.nmi)


def score_domains(
    embedding: np.ndarray,
    labels: np.ndarray,
    k: int | None = None,
    seeds: int = 5,
    readout: Readout = "tied_gmm",
    slide: str = "",
    column: str = "labels",
) -> DomainResult:
    """The read-out that every row of a table shares: standardise, PCA-30, cluster with k given, ARI and NMI.

    `tied_gmm` is a Gaussian mixture with one covariance for all components (scikit-learn, started by KMeans); it is
    blind to the scale of the axes, KMeans is not. All spots are clustered, the labelled ones are scored. An embedding
    whose rows are all equal puts every spot into one domain and scores 0.

    Args:
        embedding: [N, D], finite.
        labels: [N] str, '' where a spot has no label.
        k: number of domains; the number of classes among the labelled spots where None.
        seeds: seeds 0 .. seeds - 1 of the clustering.
        readout: `tied_gmm` (primary) or `kmeans`.
        slide: named in errors.
        column: of the labels, named in errors.

    Raises:
        EvaluationError: non-finite embedding, fewer than two classes, fewer spots than k, unknown read-out, lengths
            that differ.
    """
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
    from threadpoolctl import threadpool_limits

    embedding = check_finite(embedding, "the embedding", slide)
    labels = np.asarray(labels).astype(str)
    check_same_rows(slide, embedding=embedding, **{column: labels})
    labelled = labels != ""
    k = _count_domains(labels[labelled], len(labels), k, slide, column)
    if readout not in get_args(Readout):
        raise EvaluationError(f"read-out {readout!r} is not known; choose from {list(get_args(Readout))}", slide)
    if seeds < 1:
        raise EvaluationError(f"seeds is {seeds}; at least 1 is needed", slide)
    with threadpool_limits(1):  # KMeans adds up its threads' sums in the order they finish
        scores = fit_components(embedding, COMPONENTS).scores(embedding)
        predictions = [_cluster(scores, k, seed, readout) for seed in range(seeds)]
    truth = labels[labelled]
    return DomainResult(
        ari=tuple(float(adjusted_rand_score(truth, found[labelled])) for found in predictions),
        nmi=tuple(float(normalized_mutual_info_score(truth, found[labelled])) for found in predictions),
        predicted=predictions[0],
        k=k,
        scored=int(labelled.sum()),
    )


def match_colours(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Give each predicted domain the number of the true class that it overlaps most, one to one.

    The assignment maximises the number of spots in agreement (Hungarian method); domains left over get the numbers
    after the last class. Unlabelled spots ('') have no say.

    Args:
        predicted: [N] int, domains 0 .. k - 1.
        truth: [N] str; classes are numbered in sorted order.

    Returns:
        [max(predicted) + 1] int64: entry d is the colour number of domain d; no number occurs twice.

    Raises:
        EvaluationError: the lengths differ, or a domain number is negative.
    """
    from scipy.optimize import linear_sum_assignment

    predicted, truth = np.asarray(predicted), np.asarray(truth).astype(str)
    check_same_rows(predicted=predicted, truth=truth)
    if len(predicted) == 0 or predicted.min() < 0:
        raise EvaluationError("predicted domains should be numbers from 0 on, one a spot")
    labelled = truth != ""
    classes, true_number = np.unique(truth[labelled], return_inverse=True)
    domains = int(predicted.max()) + 1
    overlap = np.zeros((domains, len(classes)), dtype=np.int64)
    np.add.at(overlap, (predicted[labelled], true_number), 1)
    permutation = np.full(domains, -1, dtype=np.int64)
    rows, columns = linear_sum_assignment(overlap, maximize=True)
    permutation[rows] = columns
    surplus = np.flatnonzero(permutation < 0)
    permutation[surplus] = len(classes) + np.arange(len(surplus))
    return permutation


def _count_domains(truth: np.ndarray, spots: int, k: int | None, slide: str, column: str) -> int:
    classes = np.unique(truth)
    if len(classes) < 2:
        held = f"the one class {str(classes[0])!r}" if len(classes) else "no label at all"
        raise EvaluationError(f"column {column!r} holds {held}; ARI needs two classes or more", slide)
    k = len(classes) if k is None else k
    if not 1 <= k <= spots:
        raise EvaluationError(f"k is {k}; with {spots} spots it should be 1 to {spots} (column {column!r})", slide)
    return k


def _cluster(scores: np.ndarray, k: int, seed: int, readout: Readout) -> np.ndarray:
    from sklearn.cluster import KMeans
    from sklearn.mixture import GaussianMixture

    if scores.shape[1] == 0:
        return np.zeros(len(scores), dtype=np.int64)
    if readout == "kmeans":
        kmeans = KMeans(k, n_init=N_INIT, random_state=seed)  # pyright: ignore[reportArgumentType]
        return kmeans.fit_predict(scores).astype(np.int64)
    mixture = GaussianMixture(
        k, covariance_type="tied", reg_covar=REG_COVAR, n_init=N_INIT, max_iter=500, random_state=seed
    )
    return mixture.fit_predict(scores).astype(np.int64)


def _compute_sample_sd(values: tuple[float, ...]) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
