"""Which genes a model reads: chosen from the training slides alone, so that no test slide has a say."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from stalign_pl.data.shards.shard_set import SlideShard
from stalign_pl.errors import ConfigError, join_names
from stalign_pl.shard_format import GeneTable

Method = Literal["variable", "all"]


@dataclass(frozen=True)
class GeneSelection:
    """How genes are chosen and scaled. What `detected` and `panel` leave is what `method` chooses from.

    Attributes:
        n: how many genes; null takes every gene, like method "all".
        always: names (symbols or Ensembl ids) that are among the genes whatever their rank, detection or panel.
        spots: at most this many spots of a slide are sampled.
        method: "variable": the n most variable (`rank_genes`); "all": every gene, whatever n is.
        detected: share of the training slides, 0 to 1, in which a gene must be detected: counted at least once in at
            least one sampled spot. A slide that did not measure the gene counts as one without it.
        panel: a file of gene names, one a line (symbols or Ensembl ids, with or without version; lines that start with
            # are comments): only these genes.
        target_sum: counts that a spot's or niche's expression is scaled to before log1p: 10,000 (CP10K) unless told
            otherwise; null is the median of the training spots. Far above that median log1p amplifies the noise of
            single counts.
    """

    n: int | None = 2000
    always: tuple[str, ...] = ()
    spots: int = 2000
    method: Method = "variable"
    detected: float = 0.0
    panel: str | None = None
    target_sum: float | None = 1e4

    def __post_init__(self) -> None:
        for name in ("n", "spots"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"data.genes.{name} is {value}; at least 1 is wanted")
        if not 0 <= self.detected <= 1:
            raise ConfigError(f"data.genes.detected is {self.detected}; a share of the training slides, 0 to 1")
        if self.target_sum is not None and not 0 < self.target_sum < math.inf:
            raise ConfigError(
                f"data.genes.target_sum is {self.target_sum}; counts a spot, above 0, or null for the training spots' "
                f"median"
            )
        if self.method not in get_args(Method):
            raise ConfigError(f"data.genes.method is {self.method!r}; known: {', '.join(get_args(Method))}")


def sample_spots(slide: SlideShard, spots: int) -> np.ndarray:
    """Sample a slide's spots: the first of its tar's seeded random order, so the same whoever asks.

    Args:
        slide: any.
        spots: at most this many.

    Returns:
        int64 [n], spot indices, sorted.
    """
    return np.sort(slide.spot_of_rank[:spots])


def _rank_by_dispersion(mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Rank genes by variance beyond a smooth trend over the mean, as Seurat does, in bins; 0 is the most variable."""
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
    """Order all genes that some slide measured, most variable first.

    A gene counts as variable in a slide when it is among the slide's 2,000 (or `n`) most dispersed of those it
    measured; genes variable in most slides come first, ties by the median of their ranks (batch-aware, as
    `sc.pp.highly_variable_genes(batch_key=...)` and Seurat's SelectIntegrationFeatures rank them). Dispersion beyond
    the trend, not variance: the variance of log1p(CP10K) is largest where counts are 0 or 1, and that is noise.

    Args:
        slides: the training slides.
        table: the gene table of their shard set.
        selection: its `n` and `spots` are used.

    Returns:
        int64, indices of the gene table.
    """
    measured = _mask_measured(slides, table)
    variable = np.zeros(len(table))
    ranks = np.full((len(slides), len(table)), np.nan)
    for number, slide in enumerate(slides):
        counts = slide.csr(len(table), sample_spots(slide, selection.spots))[:, slide.panel]
        library = np.maximum(np.asarray(counts.sum(axis=1)).ravel(), 1)
        scaled = counts.multiply(np.median(library) / library[:, None]).tocsr()
        mean = np.asarray(scaled.mean(axis=0)).ravel()
        variance = np.asarray(scaled.multiply(scaled).mean(axis=0)).ravel() - mean**2
        rank = _rank_by_dispersion(mean, variance)
        ranks[number, slide.panel] = rank / len(rank)
        variable[slide.panel[rank < min(selection.n or 2000, len(rank) // 2)]] += 1
    median = np.nanmedian(np.where(measured, ranks, 1.0), axis=0)
    order = np.lexsort((np.arange(len(table)), median, -variable))
    return order[measured[order]]


def choose_genes(slides: list[SlideShard], table: GeneTable, selection: GeneSelection) -> np.ndarray:
    """Choose the genes to keep: those of `always`, then the first others.

    Args:
        slides: the training slides.
        table: the gene table of their shard set.
        selection: how to choose.

    Returns:
        int64 [G], indices of the gene table in the order of `rank_genes`. A gene of `always` keeps its own rank, so
        the first of the list are the most variable.

    Raises:
        ConfigError: a name of `always` or of the panel that no training slide measured, more names in `always` than
            `n`, a panel that cannot be read, or no gene left.
    """
    measured = _mask_measured(slides, table)
    allowed = measured.copy()
    if selection.detected > 0:
        allowed &= count_detections(slides, table, selection.spots) >= math.ceil(
            selection.detected * len(slides) - 1e-9
        )
    if selection.panel is not None:
        names = read_panel(Path(selection.panel))
        allowed &= _mask_of(_look_up(names, table, measured, f"data.genes.panel {selection.panel}"), table)
    always = _mask_of(_look_up(selection.always, table, measured, "data.genes.always"), table)
    ranked = rank_genes(slides, table, selection)
    named, kept = always[ranked], (allowed & ~always)[ranked]
    if selection.method == "variable" and selection.n is not None:
        if named.sum() > selection.n:
            raise ConfigError(f"data.genes.always names {named.sum()} genes, data.genes.n is {selection.n}; raise n")
        kept &= np.cumsum(kept) <= selection.n - named.sum()
    if not (named | kept).any():
        raise ConfigError(
            f"data.genes leaves no gene: {measured.sum()} are measured by {len(slides)} training slides, detected is "
            f"{selection.detected}, panel {selection.panel or 'none'}"
        )
    return ranked[named | kept]


def count_detections(slides: list[SlideShard], table: GeneTable, spots: int) -> np.ndarray:
    """Count the slides in which each gene is detected: counted at least once in at least one sampled spot.

    Args:
        slides: any of one shard set.
        table: its gene table.
        spots: at most this many spots of a slide are sampled.

    Returns:
        int64 [genes of the table].
    """
    times = np.zeros(len(table), np.int64)
    for slide in slides:
        counts = slide.csr(len(table), sample_spots(slide, spots))
        times[np.unique(counts.indices[counts.data > 0])] += 1
    return times


def read_panel(path: Path) -> list[str]:
    """Read gene names, one a line; empty lines and comments (#) are left out.

    Raises:
        ConfigError: no such file, no name, or a line of several columns.
    """
    if not path.is_file():
        raise ConfigError(f"data.genes.panel: there is no file {path}")
    lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    names = [line for line in lines if line and not line.startswith("#")]
    wide = [name for name in names if len(name.split()) > 1 or "," in name]
    if wide or not names:
        found = f"has the line {wide[0]!r}" if wide else "is empty"
        raise ConfigError(f"data.genes.panel: {path} {found}; one gene name a line is wanted")
    return names


def _look_up(names: Iterable[str], table: GeneTable, measured: np.ndarray, where: str) -> list[int]:
    """Indices of named genes in the gene table.

    Args:
        names: symbols or Ensembl ids.
        table: the gene table.
        measured: bool [genes of the table].
        where: the option that names them, for messages.

    Raises:
        ConfigError: names that the table does not have, or genes that are not measured.
    """
    found = {name: table.lookup(name) for name in names}
    unknown = [name for name, index in found.items() if index is None]
    unmeasured = [name for name, index in found.items() if index is not None and not measured[index]]
    problems = []
    if unknown:
        problems.append(
            f"{len(unknown)} names that the set's genes.tsv does not have: {join_names(map(repr, unknown))}"
        )
    if unmeasured:
        problems.append(f"{len(unmeasured)} genes that no training slide measured: {join_names(map(repr, unmeasured))}")
    if problems:
        raise ConfigError(f"{where}: {'; '.join(problems)}. Correct these names or leave them out")
    return [index for index in found.values() if index is not None]


def _mask_of(indices: list[int], table: GeneTable) -> np.ndarray:
    """bool [genes of the table], True at the indices."""
    mask = np.zeros(len(table), bool)
    mask[indices] = True
    return mask


def _mask_measured(slides: list[SlideShard], table: GeneTable) -> np.ndarray:
    """bool [genes of the table], True where at least one slide measured the gene."""
    measured = np.zeros(len(table), bool)
    for slide in slides:
        measured[slide.panel] = True
    return measured
