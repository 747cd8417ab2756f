"""Which genes the slides measured: how many slides see a gene, and what each panel cannot see."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_prep.report.shard_set import ReportedSet
from stalign_pl.errors import ShardError
from stalign_pl.shard_format import GeneTable

SHARES = (1.0, 0.9, 0.5, 0.1)
NAMES_SHOWN = 12


@dataclass(frozen=True)
class MeasuredShare:
    """`genes` of the table are measured by at least `slides` slides; `text` says so in words."""

    text: str
    slides: int
    genes: int


@dataclass(frozen=True)
class Panel:
    """The genes that some slides measured, one panel file.

    Attributes:
        slides: names, in the order of their numbers.
        unseen: genes of the table that the panel lacks.
        first_unseen: the first of these, by symbol (or id where there is none), in the order of the table.
        problem: why the file cannot be read, else ''.
    """

    file: str
    slides: tuple[str, ...]
    genes: int
    unseen: int
    first_unseen: tuple[str, ...]
    problem: str = ""


@dataclass(frozen=True)
class GeneCoverage:
    """The genes of a set. `shares`: none without slides."""

    genes: int
    with_id: int
    shares: tuple[MeasuredShare, ...]
    panels: tuple[Panel, ...]


def count_gene_coverage(shard_set: ReportedSet) -> GeneCoverage:
    """Count which slides measured which genes. Panels: the one that most slides share first."""
    slides_of: dict[str, list[str]] = {}
    for record in shard_set.slides:
        slides_of.setdefault(record.panel, []).append(record.name)
    measured = np.zeros(len(shard_set.genes), np.int64)
    panels = []
    for file, names in slides_of.items():
        try:
            genes = _load_panel(shard_set.folder / file, shard_set.genes)
        except ShardError as error:
            panels.append(Panel(file, tuple(names), 0, 0, (), str(error)))
            continue
        measured[genes] += len(names)
        unseen = np.setdiff1d(np.arange(len(shard_set.genes)), genes)
        panels.append(
            Panel(file, tuple(names), len(genes), len(unseen), _name_genes(shard_set.genes, unseen[:NAMES_SHOWN]))
        )
    panels.sort(key=lambda panel: (-len(panel.slides), -panel.genes, panel.file))
    return GeneCoverage(
        len(shard_set.genes),
        sum(bool(gene) for gene in shard_set.genes.ids),
        _count_shares(measured, len(shard_set.slides)),
        tuple(panels),
    )


def _count_shares(measured: np.ndarray, slides: int) -> tuple[MeasuredShare, ...]:
    wanted = {}
    for share in SHARES if slides else ():
        text = "every slide" if share == 1 else f"at least {share:.0%} of the slides"
        wanted.setdefault(int(np.ceil(share * slides - 1e-9)), text)
    if slides:
        wanted.setdefault(1, "at least one slide")
    return tuple(MeasuredShare(text, least, int((measured >= least).sum())) for least, text in wanted.items())


def _load_panel(path: Path, table: GeneTable) -> np.ndarray:
    try:
        genes = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ShardError(f"{path} cannot be read as an array: {error}") from error
    if genes.ndim != 1 or (len(genes) and not 0 <= genes.min() <= genes.max() < len(table)):
        raise ShardError(f"{path} holds gene indices beyond the {len(table)} genes of genes.tsv")
    return genes


def _name_genes(table: GeneTable, genes: np.ndarray) -> tuple[str, ...]:
    return tuple(table.symbols[gene] or table.ids[gene] for gene in genes)
