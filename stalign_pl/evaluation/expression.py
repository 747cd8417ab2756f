"""Gene prediction: normalised expression, and the scores of a prediction against it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from stalign_pl.evaluation.checks import EvaluationError, check_finite, check_same_rows
from stalign_pl.evaluation.components import FLOAT32
from stalign_pl.evaluation.normalise import log_normalise_slide, sum_counts

CP10K = 1e4


@dataclass(frozen=True)
class GeneScores:
    """Scores of a prediction over the spots of a slide or fold.

    Attributes:
        mse: mean over genes of the mean squared error, in squared units of the targets.
        pearson: mean over the genes whose measured values vary; NaN where none does.
        names: [T] gene names.
        gene_mse: [T] float64, mean squared errors.
        gene_pearson: [T] float64, Pearson r: NaN for a gene whose measured value is constant, and 0 for a varying gene
            whose prediction is constant (left out, a model could raise its mean by giving up on a gene).
        constant: number of genes with constant measured values, left out of `pearson` and counted in `mse`.
    """

    mse: float
    pearson: float
    names: tuple[str, ...]
    gene_mse: np.ndarray
    gene_pearson: np.ndarray
    constant: int


def intersect_panels(measured: Sequence[np.ndarray]) -> np.ndarray:
    """Gene indices that every slide measured: [P] int64, sorted.

    Raises:
        EvaluationError: no slide given, or no gene is common to all.
    """
    if not measured:
        raise EvaluationError("a shared panel needs the measured genes of at least one slide")
    panel = np.unique(measured[0])
    for genes in measured[1:]:
        panel = np.intersect1d(panel, genes)
    if len(panel) == 0:
        raise EvaluationError(f"the {len(measured)} slides have no measured gene in common")
    return panel.astype(np.int64)


def normalise_cp10k(counts: sparse.spmatrix, panel: np.ndarray, genes: np.ndarray | None = None) -> np.ndarray:
    """log1p of counts per 10,000, the library size being taken over the panel alone.

    CP10K over 100 genes is not CP10K over 36,000: train and test share one panel (`intersect_panels`).

    Args:
        counts: [N, G] sparse, raw counts.
        panel: [P] int, gene indices without repeats that make up the library.
        genes: [T] int, gene indices of the panel to return, in this order; the whole panel where None.

    Returns:
        [N, P] (or [N, T]) float32, natural logarithm, 0 or more. A spot without counts in the panel is all zeros.

    Raises:
        EvaluationError: an index outside the gene axis, a repeated one, or a gene outside the panel.
    """
    panel = np.asarray(panel)
    counts = sparse.csr_matrix(counts)
    measured = counts.get_shape()[1]
    if len(panel) == 0 or panel.min() < 0 or panel.max() >= measured or len(np.unique(panel)) < len(panel):
        raise EvaluationError(f"the panel should be gene indices 0 to {measured - 1}, each once, at least one")
    genes = panel if genes is None else np.asarray(genes)
    outside = np.setdiff1d(genes, panel)
    if len(outside):
        raise EvaluationError(f"gene indices {outside[:5].tolist()} are not in the panel of {len(panel)} genes")
    return log_normalise_slide(counts[:, genes], CP10K, sum_counts(counts[:, panel])).toarray().astype(np.float32)


def predict_constant(fit_targets: np.ndarray) -> np.ndarray:
    """The mean of the fitting spots [N, T], gene by gene: [T] float32, for all spots alike: the baseline of an MSE."""
    return check_finite(fit_targets, "the targets").mean(axis=0, dtype=np.float64).astype(np.float32)


def score_genes(predicted: np.ndarray, measured: np.ndarray, names: Sequence[str], slide: str = "") -> GeneScores:
    """Mean squared error and Pearson r, gene by gene, over the spots.

    Args:
        predicted: [N, T], or [T] for one prediction for all spots.
        measured: [N, T], in the same units (log1p(CP10K)).
        names: [T] gene names.
        slide: named in errors.

    Raises:
        EvaluationError: shapes that do not fit, or NaN or infinity.
    """
    measured = check_finite(measured, "the measured expression", slide, columns=len(names)).astype(np.float64)
    predicted = np.asarray(predicted)
    if predicted.ndim == 1:
        predicted = np.broadcast_to(predicted, (len(measured), len(predicted)))
    predicted = check_finite(predicted, "the predicted expression", slide, columns=len(names)).astype(np.float64)
    check_same_rows(slide, predicted=predicted, measured=measured)
    gene_mse = ((predicted - measured) ** 2).mean(axis=0)
    flat = np.ptp(measured, axis=0) == 0
    gene_pearson = np.where(flat, np.nan, _correlate(predicted, measured))
    return GeneScores(
        mse=float(gene_mse.mean()),
        pearson=float("nan") if flat.all() else float(gene_pearson[~flat].mean()),
        names=tuple(names),
        gene_mse=gene_mse,
        gene_pearson=gene_pearson,
        constant=int(flat.sum()),
    )


def _correlate(predicted: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """[T] Pearson r of the columns; 0 where either column does not vary beyond float32 rounding."""
    varies = (np.ptp(predicted, axis=0) > FLOAT32 * np.abs(predicted).max(axis=0)) & (np.ptp(measured, axis=0) > 0)
    a, b = predicted - predicted.mean(axis=0), measured - measured.mean(axis=0)
    size = np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))
    return np.where(varies, (a * b).sum(axis=0) / np.where(varies, size, 1.0), 0.0)
