"""The genes that a model sees, chosen from the training slides alone, with the statistics that normalise them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from stalign_pl.data.shards import SlideShard
from stalign_pl.errors import ConfigError
from stalign_pl.shard_format import GeneTable

TARGET_SUM = 1e4


@dataclass(frozen=True)
class GeneSelection:
    """How genes are chosen.

    Attributes:
        n: how many; null takes every gene that some training slide measured.
        always: names (symbols or Ensembl ids) that are among the n whatever their rank.
        spots: at most this many spots of a slide are looked at.
    """

    n: int | None = 2000
    always: tuple[str, ...] = ()
    spots: int = 2000


@dataclass(frozen=True)
class Vocabulary:
    """G genes, by index of the set's gene table, and what normalising them needs.

    Attributes:
        genes: int64 [G], sorted.
        ranked: int64 [G], the same, most variable first (`rank_genes`).
        share: float64 [G], a gene's mean share of the counts over training spots of slides that measured it.
        mean, sd: float32 [G], of log1p(CP10K) over training spots of slides that measured it.
        table: digest of the gene table that the indices belong to.
    """

    genes: np.ndarray
    ranked: np.ndarray
    share: np.ndarray
    mean: np.ndarray
    sd: np.ndarray
    table: str

    def __len__(self) -> int:
        return len(self.genes)

    def digest(self) -> str:
        return hashlib.sha256(self.genes.tobytes() + self.table.encode()).hexdigest()

    def measured(self, slide: SlideShard) -> np.ndarray:
        """bool [G]: which of the genes a slide measured."""
        return np.isin(self.genes, slide.panel)

    def target_sum(self, measured: np.ndarray) -> float:
        """What a spot's counts over the measured genes are scaled to.

        10,000 for a slide that measured all of them; for a smaller panel the part of 10,000 that its genes make up in
        the training slides. CP10K on 100 genes is not CP10K on 36,000: this keeps one gene on one scale.
        """
        return TARGET_SUM * float(self.share[measured].sum() / self.share.sum())


def _looked_at(slide: SlideShard, spots: int) -> np.ndarray:
    """The first spots of the tar's seeded random order: a sample that depends on nothing but the slide."""
    return np.sort(slide.spot_of_rank[:spots])


def _dispersion_rank(mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Rank of each gene by variance beyond a smooth trend over the mean (0 = most variable). Seurat's idea, in bins."""
    expressed = mean > 0
    score = np.full(len(mean), -np.inf)
    log_ratio = np.log(np.maximum(variance, 1e-12)[expressed] / mean[expressed])
    order = np.argsort(mean[expressed], kind="stable")
    bins = np.array_split(order, max(1, min(20, len(order) // 20)))
    residual = np.zeros(len(order))
    for members in bins:
        spread = np.median(np.abs(log_ratio[members] - np.median(log_ratio[members])))
        residual[members] = (log_ratio[members] - np.median(log_ratio[members])) / max(spread, 1e-6)
    score[expressed] = residual
    rank = np.empty(len(mean))
    rank[np.argsort(-score, kind="stable")] = np.arange(len(mean))
    return rank


def rank_genes(slides: list[SlideShard], table: GeneTable, selection: GeneSelection) -> np.ndarray:
    """All genes that some slide measured, by index, most variable first.

    A gene counts as variable in a slide when it is among the slide's 2,000 (or `n`) most dispersed of those it
    measured; genes variable in most slides come first, ties by the median of their ranks (batch-aware, as
    `sc.pp.highly_variable_genes(batch_key=...)` and Seurat's SelectIntegrationFeatures rank them). Dispersion beyond
    the trend, not variance: the variance of log1p(CP10K) is largest where counts are 0 or 1, and that is noise.

    """
    measured = _measured_by_any(slides, table)
    variable = np.zeros(len(table))
    ranks = np.full((len(slides), len(table)), np.nan)
    for number, slide in enumerate(slides):
        counts = slide.csr(len(table), _looked_at(slide, selection.spots))[:, slide.panel]
        library = np.maximum(np.asarray(counts.sum(axis=1)).ravel(), 1)
        scaled = counts.multiply(np.median(library) / library[:, None]).tocsr()
        mean = np.asarray(scaled.mean(axis=0)).ravel()
        variance = np.asarray(scaled.multiply(scaled).mean(axis=0)).ravel() - mean**2
        rank = _dispersion_rank(mean, variance)
        ranks[number, slide.panel] = rank / len(rank)
        variable[slide.panel[rank < min(selection.n or 2000, len(rank) // 2)]] += 1
    median = np.nanmedian(np.where(measured, ranks, 1.0), axis=0)
    order = np.lexsort((np.arange(len(table)), median, -variable))
    return order[measured[order]]


def choose_genes(slides: list[SlideShard], table: GeneTable, selection: GeneSelection) -> np.ndarray:
    """The `n` genes to keep, by index, in the order of `rank_genes`: those of `always`, then the most variable others.

    A gene of `always` keeps its own rank: whoever takes the first of the list takes the most variable.

    Raises:
        ConfigError: an `always` name that no slide measured, or more of them than `n`.
    """
    measured, always = _measured_by_any(slides, table), []
    for name in selection.always:
        index = table.lookup(name)
        if index is None or not measured[index]:
            raise ConfigError(f"data.genes.always: no training slide measured {name!r}")
        always.append(index)
    ranked = rank_genes(slides, table, selection)
    if selection.n is None:
        return ranked
    named = np.isin(ranked, always)
    if named.sum() > selection.n:
        raise ConfigError(f"data.genes.always names {named.sum()} genes, data.genes.n is {selection.n}; raise n")
    others = np.cumsum(~named) <= selection.n - named.sum()
    return ranked[named | others]


def _measured_by_any(slides: list[SlideShard], table: GeneTable) -> np.ndarray:
    """bool [all genes of the table]."""
    measured = np.zeros(len(table), bool)
    for slide in slides:
        measured[slide.panel] = True
    return measured


def build_vocabulary(slides: list[SlideShard], table: GeneTable, selection: GeneSelection) -> Vocabulary:
    """Choose genes and take their statistics, from training slides alone."""
    ranked = choose_genes(slides, table, selection)
    genes = np.sort(ranked)
    share, seen = np.zeros(len(genes)), np.zeros(len(genes))
    for slide in slides:
        counts = slide.csr(len(table), _looked_at(slide, selection.spots))[:, genes]
        measured = np.isin(genes, slide.panel)
        library = np.maximum(np.asarray(counts.sum(axis=1)).ravel(), 1)
        share[measured] += np.asarray(counts.multiply(1 / library[:, None]).sum(axis=0)).ravel()[measured]
        seen[measured] += len(library)
    share /= np.maximum(seen, 1)
    nothing, ones = np.zeros(len(genes), np.float32), np.ones(len(genes), np.float32)
    draft = Vocabulary(genes, ranked, share, nothing, ones, table.digest())
    total, square = np.zeros(len(genes)), np.zeros(len(genes))
    for slide in slides:
        measured = draft.measured(slide)
        counts = slide.csr(len(table), _looked_at(slide, selection.spots))[:, genes]
        library = np.maximum(np.asarray(counts.sum(axis=1)).ravel(), 1)
        log = counts.multiply(draft.target_sum(measured) / library[:, None]).tocsr().log1p()
        total += np.asarray(log.sum(axis=0)).ravel()
        square += np.asarray(log.multiply(log).sum(axis=0)).ravel()
    mean = total / np.maximum(seen, 1)
    sd = np.sqrt(np.maximum(square / np.maximum(seen, 1) - mean**2, 0))
    return Vocabulary(
        genes, ranked, share, mean.astype(np.float32), np.maximum(sd, 1e-2).astype(np.float32), draft.table
    )
