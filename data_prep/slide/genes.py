"""Symbols, identifiers and the one gene table that all slides of a build share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse

from stalign_pl.gene_ids import find_ensembl_id, is_ensembl_gene
from stalign_pl.shard_format import GeneTable


@dataclass(frozen=True)
class GeneNames:
    """The columns of a slide.

    Attributes:
        ids: Ensembl id without version of each column, '' where unknown.
        symbols: symbol of each column, '' where unknown.
    """

    ids: tuple[str, ...]
    symbols: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)


def make_gene_names(names: Sequence[str], symbols: Sequence[str] | None = None) -> GeneNames:
    """Sort column names into ids and symbols.

    Args:
        names: [G] one name a column: one that looks like ENSG00000141510 or ENSMUSG00000059552.8 is an id (the version
            is cut off), any other a symbol.
        symbols: [G] symbols to go with the ids, where a slide carries both. A "symbol" that is an id is no symbol.
    """
    ids, own_symbols = [], []
    for number, name in enumerate(names):
        gene = find_ensembl_id(str(name))
        second = "" if symbols is None else str(symbols[number])
        ids.append(gene)
        own_symbols.append("" if is_ensembl_gene(second) else second)
        if not gene and not own_symbols[-1]:
            own_symbols[-1] = str(name)
    return GeneNames(tuple(ids), tuple(own_symbols))


@dataclass(frozen=True)
class GeneAxis:
    """The gene table of a build, and how a slide's columns meet it.

    Attributes:
        table: the genes of all slides.
        id_of_symbol: the Ensembl id that stands for a symbol, for symbols that some slide has an id of.
    """

    table: GeneTable
    id_of_symbol: dict[str, str]

    def columns(self, names: GeneNames) -> np.ndarray:
        """Returns int64 [G]: the gene index of each of a slide's columns; columns of one gene share an index.

        Raises:
            KeyError: a name that was not in any slide the axis was made from.
        """
        keys = [_key(gene, symbol, self.id_of_symbol) for gene, symbol in zip(names.ids, names.symbols, strict=True)]
        return np.array([self._rows[key] for key in keys], dtype=np.int64)

    @cached_property
    def _rows(self) -> dict[tuple[str, str], int]:
        return {key: number for number, key in enumerate(_keys(self.table))}


def make_gene_axis(slides: Iterable[GeneNames]) -> GeneAxis:
    """Make one gene table for slides that name their genes differently. Independent of the order of the slides.

    A symbol becomes an Ensembl id where some slide carries both; a symbol with several ids takes the smallest. What
    cannot be resolved stays a symbol. Rows: first the genes with an id, by id; then the others, by symbol. A gene
    with several symbols (two annotations) shows the smallest.
    """
    slides = tuple(slides)
    ids_of_symbol: dict[str, set[str]] = {}
    symbols_of_id: dict[str, set[str]] = {}
    for names in slides:
        for gene, symbol in zip(names.ids, names.symbols, strict=True):
            if gene:
                symbols_of_id.setdefault(gene, set()).update({symbol} - {""})
            if gene and symbol:
                ids_of_symbol.setdefault(symbol, set()).add(gene)
    id_of_symbol = {symbol: min(ids) for symbol, ids in sorted(ids_of_symbol.items())}
    every = {
        _key(gene, symbol, id_of_symbol)
        for names in slides
        for gene, symbol in zip(names.ids, names.symbols, strict=True)
    }
    with_id = sorted(name for kind, name in every if kind == "id")
    without = sorted(name for kind, name in every if kind == "symbol")
    table = GeneTable(
        ids=(*with_id, *([""] * len(without))),
        symbols=(*(min(symbols_of_id[gene], default="") for gene in with_id), *without),
    )
    return GeneAxis(table, id_of_symbol)


def spread_counts(measured: np.ndarray, columns: np.ndarray, counts: sparse.csr_matrix) -> sparse.csr_matrix:
    """Returns a slide's counts over its measured genes; sums the columns of one gene; a gene without column is zero.

    Args:
        measured: int [n], sorted gene indices; holds every value of `columns`.
        columns: int [G], the gene index of each column of `counts`.
        counts: [N, G] CSR int32.

    Returns:
        [N, n] CSR, columns sorted within rows, values float32 (exact: counts are below 2^24), as an AnnData file's X:
        a slide's counts can be as large as its image, so there is one copy of them.
    """
    place = np.searchsorted(measured, columns)
    assert np.array_equal(measured[place], columns), "a column's gene is not among the measured genes"
    if len(np.unique(place)) == len(place):  # every gene has one column: nothing to add up
        return _move_columns(counts, place.astype(counts.indices.dtype), len(measured))
    spread = sparse.csr_matrix(
        (np.ones(len(columns), np.int32), (np.arange(len(columns)), place)), shape=(len(columns), len(measured))
    )
    summed = sparse.csr_matrix(counts @ spread)
    summed.sort_indices()
    return sparse.csr_matrix(summed.astype(np.float32))


def _move_columns(counts: sparse.csr_matrix, place: np.ndarray, width: int) -> sparse.csr_matrix:
    """Returns the columns at new places, sorted within rows; values float32."""
    shape, values = (len(counts.indptr) - 1, width), counts.data.astype(np.float32)
    moved = sparse.csr_matrix((values, place[counts.indices], counts.indptr), shape=shape)
    moved.sort_indices()
    return moved


def _key(gene: str, symbol: str, id_of_symbol: dict[str, str]) -> tuple[str, str]:
    found = gene or id_of_symbol.get(symbol, "")
    return ("id", found) if found else ("symbol", symbol)


def _keys(table: GeneTable) -> Iterable[tuple[str, str]]:
    return (("id", gene) if gene else ("symbol", symbol) for gene, symbol in zip(table.ids, table.symbols, strict=True))
