"""Training-free baselines: what clustering gets from raw counts, coordinates or pixels, by the model's own read-out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from stalign_pl.evaluation.checks import EvaluationError, check_finite
from stalign_pl.evaluation.components import Components, fit_components
from stalign_pl.evaluation.normalise import find_median_library, log_normalise_slide, sum_counts

COMPONENTS = 30
MOST_VARIABLE = 2000
MAX_ROUNDS = 6
MAX_SIDE = 40
CHUNK = 128


def compute_smoothed_pca(
    counts: sparse.spmatrix, neighbours: sparse.spmatrix, rounds: int, target_sum: float | None = None
) -> np.ndarray:
    """Scores of the log-normalised expression on 30 components, averaged over first-ring neighbours `rounds` times.

    Library size, log1p, the slide's 2,000 most variable genes, mean over a spot and its neighbours (repeated), PCA of
    the centred, not standardised, genes. The scores, not the expression, go to the read-out: standardising single
    genes there would blow up the noise of the weakly expressed and lower the scores (on a DLPFC slice from .27 to .2).

    Args:
        counts: [N, G] raw counts; all of them make up the library.
        neighbours: [N, N], non-zero where two spots are first-ring neighbours; values and diagonal are ignored.
        rounds: 0 (plain PCA) to 6.
        target_sum: counts a spot after normalising; the median library where None, as scanpy's normalize_total does.
            1e4 is CP10K, a slightly lower baseline on small gene panels, where it blows up counting noise.

    Returns:
        [N, C] float64, C = min(30, genes, N - 1).

    Raises:
        EvaluationError: rounds outside 0..6, or a graph of another size.
    """
    logged = log_normalise_slide(counts, target_sum)
    expression = _smooth(logged[:, _find_most_variable(logged)].toarray(), neighbours, rounds)
    return fit_components(expression, COMPONENTS, standardise=False).scores(expression)


@dataclass(frozen=True)
class TrainingPCA:
    """30 components of the training spots' (or niches') expression: what a linear model knows of a slide beforehand.

    As in `compute_smoothed_pca`, but library size (to the training spots' median), the 2,000 most variable genes and
    the components are the training slides'. The components are of single spots; a held-out slide is smoothed before it
    is projected. Fitted on smoothed slides they give the same (development cohorts 1 and 2: ARI within .03 either way).

    Attributes:
        panel: int [P], gene indices that make up the library.
        genes: int [g], positions in it.
        target_sum: counts a spot after normalising.
        components: of the log-normalised genes, centred, not standardised.
    """

    panel: np.ndarray
    genes: np.ndarray
    target_sum: float
    components: Components

    @classmethod
    def fit(cls, counts: Iterable[sparse.spmatrix], panel: np.ndarray, target_sum: float | None = None) -> TrainingPCA:
        """Fit on training spots.

        Args:
            counts: [F, G] raw counts of each training slide's spots. Rows without any are left out.
            panel: int [P], gene indices that all of them and the held-out slide measured (`intersect_panels`).
            target_sum: their median library where None. Sums over niches want that of spots: log1p of a niche's tens
                of thousands of counts is another curve.
        """
        parts = [sparse.csr_matrix(part, dtype=np.float64)[:, panel] for part in counts]
        spots = sparse.csr_matrix(sparse.vstack(parts, format="csr"))
        library = sum_counts(spots)
        spots = spots[library > 0]
        target_sum = find_median_library(library) if target_sum is None else target_sum
        logged = log_normalise_slide(spots, target_sum)
        genes = _find_most_variable(logged)
        return cls(panel, genes, target_sum, fit_components(logged[:, genes].toarray(), COMPONENTS, standardise=False))

    def scores(self, counts: sparse.spmatrix, neighbours: sparse.spmatrix, rounds: int) -> np.ndarray:
        """[N, C] float64 of a held-out slide; arguments and errors as of `compute_smoothed_pca`."""
        logged = log_normalise_slide(sparse.csr_matrix(counts)[:, self.panel], self.target_sum)
        return self.components.scores(_smooth(logged[:, self.genes].toarray(), neighbours, rounds))


def check_coordinates(xy: np.ndarray) -> np.ndarray:
    """Positions alone, [N, 2] float64: the baseline that knows no tissue.

    Raises:
        EvaluationError: not a finite [N, 2] array.
    """
    return check_finite(xy, "the positions", columns=2).astype(np.float64)


def compute_pixel_features(niche_images: np.ndarray, side: int = MAX_SIDE) -> np.ndarray:
    """Pixels without a network: stain-normalised, averaged down to side x side, flattened, with colour mean and sd.

    Stain: optical density -log((v + 1) / 256), each channel standardised over all pixels of the slide, so that a
    slide's own staining strength is gone.

    Args:
        niche_images: uint8 [N, H, W, 3], the niche images of one slide.
        side: at most 40, and cut to H and W where those are smaller; pixels are averaged by area.

    Returns:
        [N, side * side * 3 + 6] float32: pixels (row, column, channel), mean of each channel, sd of each channel.

    Raises:
        EvaluationError: another dtype or shape, or a side that is too large.
    """
    images = np.asarray(niche_images)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or 0 in images.shape:
        raise EvaluationError(f"niche images should be uint8 [N, H, W, 3], not {images.dtype} {images.shape}")
    if not 1 <= side <= MAX_SIDE:
        raise EvaluationError(f"side is {side}; choose 1 to {MAX_SIDE}")
    side = min(side, images.shape[1], images.shape[2])
    density = -np.log((np.arange(256, dtype=np.float32) + 1) / 256)
    rows, columns = _weigh_area(images.shape[1], side), _weigh_area(images.shape[2], side)
    small, mean, square = [], [], []
    for start in range(0, len(images), CHUNK):
        chunk = density[images[start : start + CHUNK]]  # [n, H, W, 3]
        small.append(np.einsum("sh,nhwc,tw->nstc", rows, chunk, columns, optimize=True))
        mean.append(chunk.mean(axis=(1, 2), dtype=np.float64))
        square.append((chunk**2).mean(axis=(1, 2), dtype=np.float64))
    pixels, mean, square = np.concatenate(small), np.concatenate(mean), np.concatenate(square)
    centre = mean.mean(axis=0)
    spread = np.sqrt(np.maximum(square.mean(axis=0) - centre**2, 1e-12))  # [3] over all pixels of the slide
    sd = np.sqrt(np.maximum(square - mean**2, 0.0))
    flat = ((pixels - centre) / spread).reshape(len(images), -1)
    return np.concatenate([flat, (mean - centre) / spread, sd / spread], axis=1).astype(np.float32)


def _find_most_variable(logged: sparse.csr_matrix) -> np.ndarray:
    """The 2,000 genes (or all, where there are fewer) of the largest variance, in gene order."""
    mean = np.asarray(logged.mean(axis=0)).ravel()
    variance = np.asarray(logged.multiply(logged).mean(axis=0)).ravel() - mean**2
    return np.sort(np.argsort(-variance, kind="stable")[:MOST_VARIABLE])


def _smooth(expression: np.ndarray, neighbours: sparse.spmatrix, rounds: int) -> np.ndarray:
    """[N, g]: the mean over a spot and its neighbours, `rounds` times."""
    if not 0 <= rounds <= MAX_ROUNDS:
        raise EvaluationError(f"{rounds} rounds of smoothing asked for; choose 0 to {MAX_ROUNDS}")
    if neighbours.shape != (len(expression),) * 2:
        raise EvaluationError(
            f"the neighbour graph has shape {neighbours.shape}, the slide has {len(expression)} spots"
        )
    mean = _average_over_ring(neighbours)
    for _ in range(rounds):
        expression = mean @ expression
    return expression


def _average_over_ring(neighbours: sparse.spmatrix) -> sparse.csr_matrix:
    """[N, N] row-stochastic: the mean over a spot and its neighbours."""
    graph = sparse.csr_matrix(neighbours, dtype=np.float64, copy=True)
    graph.eliminate_zeros()
    graph.data[:] = 1.0
    graph.sum_duplicates()
    graph.data[:] = 1.0
    graph.setdiag(0.0)
    graph.eliminate_zeros()
    ring = sparse.csr_matrix(graph + sparse.identity(graph.get_shape()[0], format="csr"))
    return sparse.csr_matrix(sparse.diags(1.0 / np.asarray(ring.sum(axis=1)).ravel()) @ ring)


def _weigh_area(pixels: int, side: int) -> np.ndarray:
    """[side, pixels] float32: the share of each pixel in each of `side` equal stretches; rows sum to 1."""
    edges = np.linspace(0, pixels, side + 1)
    start, stop = np.arange(pixels), np.arange(pixels) + 1
    overlap = np.minimum(edges[1:, None], stop) - np.maximum(edges[:-1, None], start)
    return (np.clip(overlap, 0.0, None) * (side / pixels)).astype(np.float32)
