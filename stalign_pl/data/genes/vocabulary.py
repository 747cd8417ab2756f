"""The genes that a model reads, with the statistics that normalise them: from the training slides alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from stalign_pl.batch.expression import log_normalise
from stalign_pl.batch.gene_panel import GenePanel
from stalign_pl.data.genes.normalise import compute_measured_share
from stalign_pl.data.genes.selection import GeneSelection, choose_genes, sample_spots
from stalign_pl.data.shards.shard_set import SlideShard
from stalign_pl.errors import join_names
from stalign_pl.files import replace_file
from stalign_pl.shard_format import GeneTable

CP10K = 1e4

FEW = 0.9
"""A slide that measured a smaller share of the genes is reported when a run starts."""


@dataclass(frozen=True)
class Vocabulary:
    """G genes, by index of the set's gene table, and what normalising them needs.

    Attributes:
        genes: int64 [G], sorted.
        ranked: int64 [G], the same, most variable first (`rank_genes`).
        share: float64 [G], a gene's mean share of the counts over training spots of slides that measured it.
        mean: float32 [G], of the log-normalised expression over training spots of slides that measured it.
        sd: float32 [G], likewise; at least 0.01.
        table: digest of the gene table that the indices belong to.
        total: what the counts of a spot whose slide measured all genes are scaled to, before log1p.
    """

    genes: np.ndarray
    ranked: np.ndarray
    share: np.ndarray
    mean: np.ndarray
    sd: np.ndarray
    table: str
    total: float = CP10K

    def __len__(self) -> int:
        return len(self.genes)

    def digest(self) -> str:
        """Hash the genes and how they are scaled."""
        scale = b"" if self.total == CP10K else np.float64(self.total).tobytes()
        return hashlib.sha256(self.genes.tobytes() + self.table.encode() + scale).hexdigest()

    def panel(self, table: GeneTable) -> GenePanel:
        """Names and statistics of the genes, which a model is built for.

        Args:
            table: the shard set's, which the indices belong to.
        """
        names = ((table.symbols[gene], table.ids[gene]) for gene in self.genes)
        symbols, ids = zip(*names, strict=True)
        return GenePanel(symbols, ids, self.mean, self.sd)

    def measured(self, slide: SlideShard) -> np.ndarray:
        """bool [G]: which of the genes a slide measured."""
        return np.isin(self.genes, slide.panel)

    def target_sum(self, measured: np.ndarray) -> float:
        """The sum to which a spot's counts of the measured genes, bool [G], are scaled: their part of `total`."""
        return self.total * compute_measured_share(self.share, measured)

    def write(self, path: Path, table: GeneTable, split: str) -> None:
        """Write `genes.tsv`: a line of hashes, a line of column names, then the genes by index.

        Args:
            path: of the file.
            table: the shard set's, which the indices belong to.
            split: hash of the split file; "" without one.
        """
        rank = np.empty(len(self), np.int64)
        rank[np.searchsorted(self.genes, self.ranked)] = np.arange(len(self))
        columns = zip(self.genes, rank, self.share, self.mean, self.sd, strict=True)
        rows = [
            f"{gene}\t{table.ids[gene]}\t{table.symbols[gene]}\t{place}\t{share:.6g}\t{mean:.6g}\t{sd:.6g}\n"
            for gene, place, share, mean, sd in columns
        ]
        head = f"# selection {self.digest()}\tgene_table {self.table}\tsplit {split or 'none'}\n"
        names = "index\tensembl_id\tsymbol\trank\tshare\tmean\tsd\n"
        with replace_file(path) as temporary:
            temporary.write_text(head + names + "".join(rows), encoding="utf-8")


def build_vocabulary(slides: list[SlideShard], table: GeneTable, selection: GeneSelection) -> Vocabulary:
    """Choose genes and compute their statistics, from training slides alone.

    Args:
        slides: the training slides.
        table: the gene table of their shard set.
        selection: how genes are chosen and scaled, and how many spots of a slide are read.

    Raises:
        ConfigError: see `choose_genes`.
    """
    ranked = choose_genes(slides, table, selection)
    genes = np.sort(ranked)
    share, spots, libraries = _count_shares(slides, len(table), genes, selection.spots)
    total = _median_library(share, libraries) if selection.target_sum is None else selection.target_sum
    nothing, ones = np.zeros(len(genes), np.float32), np.ones(len(genes), np.float32)
    draft = Vocabulary(genes, ranked, share, nothing, ones, table.digest(), total)
    summed, square = np.zeros(len(genes)), np.zeros(len(genes))
    for slide in slides:
        counts = slide.csr(len(table), sample_spots(slide, selection.spots))[:, genes]
        log = log_normalise(counts, draft.target_sum(draft.measured(slide)))
        summed += np.asarray(log.sum(axis=0)).ravel()
        square += np.asarray(log.multiply(log).sum(axis=0)).ravel()
    mean = summed / np.maximum(spots, 1)
    sd = np.sqrt(np.maximum(square / np.maximum(spots, 1) - mean**2, 0))
    return replace(draft, mean=mean.astype(np.float32), sd=np.maximum(sd, 1e-2).astype(np.float32))


def _count_shares(
    slides: list[SlideShard], table_size: int, genes: np.ndarray, most_spots: int
) -> tuple[np.ndarray, np.ndarray, list[tuple[np.ndarray, np.ndarray]]]:
    """Average each gene's share of a spot's counts over the spots of slides that measured it.

    Args:
        slides: the training slides.
        table_size: genes of the shard set.
        genes: int64 [G], the chosen ones by index.
        most_spots: of a slide that are read.

    Returns:
        Mean shares, float64 [G]; how many spots each is the mean of, float64 [G]; and of each slide, which genes it
        measured, bool [G], with its spots' libraries, int64 [n], 1 or more.
    """
    share, spots, libraries = np.zeros(len(genes)), np.zeros(len(genes)), []
    for slide in slides:
        counts = slide.csr(table_size, sample_spots(slide, most_spots))[:, genes]
        measured = np.isin(genes, slide.panel)
        library = np.maximum(np.asarray(counts.sum(axis=1)).ravel(), 1)
        share[measured] += np.asarray(counts.multiply(1 / library[:, None]).sum(axis=0)).ravel()[measured]
        spots[measured] += len(library)
        libraries.append((measured, library))
    return share / np.maximum(spots, 1), spots, libraries


def _median_library(share: np.ndarray, libraries: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """The median library, each scaled up to what it would be had its slide measured all genes; see `_count_shares`."""
    whole = [library / compute_measured_share(share, measured) for measured, library in libraries]
    return float(np.median(np.concatenate(whole)))


def count_measured(vocabulary: Vocabulary, slides: Iterable[SlideShard]) -> dict[str, int]:
    """Count the genes that each slide measured: slide name -> number, of slides that did not measure all, by name."""
    counts = {slide.record.name: int(vocabulary.measured(slide).sum()) for slide in slides}
    return {name: counts[name] for name in sorted(counts) if counts[name] < len(vocabulary)}


def report_few_measured(vocabulary: Vocabulary, slides: Iterable[SlideShard], table: GeneTable) -> list[str]:
    """Report slides that measured less than FEW of the genes: a line each, what they lack, most variable first."""
    lines = []
    for slide in sorted(slides, key=lambda slide: slide.record.name):
        absent = vocabulary.ranked[~np.isin(vocabulary.ranked, slide.panel)]
        if len(absent) > (1 - FEW) * len(vocabulary):
            measured = len(vocabulary) - len(absent)
            names = join_names(table.names[gene] for gene in absent)
            lines.append(f"{slide.record.name} measured {measured:,} of {len(vocabulary):,} genes; not: {names}")
    return lines
