"""Checks of the arrays beside the tars: panel, counts, index."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from data_prep.check.problem import Problem
from stalign_pl.shard_format import INDEX, INDEX_COLUMN, SlideRecord


def check_panel(record: SlideRecord, panel: np.ndarray, genes: int) -> Iterator[Problem]:
    """Check the measured gene indices: int32, ascending, of the table, as many as the record says."""
    if panel.dtype != np.int32 or panel.ndim != 1 or len(panel) != record.measured_genes:
        yield Problem(record.panel, f"is {panel.dtype} {panel.shape}, int32 ({record.measured_genes},) is wanted")
    elif len(panel) and (panel[0] < 0 or panel[-1] >= genes or (np.diff(panel) <= 0).any()):
        yield Problem(record.panel, f"gene indices should ascend within 0 to {genes - 1}")


def check_index(record: SlideRecord, index: np.ndarray, nnz: int) -> Iterator[Problem]:
    """Check that bounds cover the counts without a gap, ranks are a permutation, and parts go in order of rank."""
    if index.dtype != np.int64 or index.shape != (record.spots, len(INDEX)):
        yield Problem(record.index, f"is {index.dtype} {index.shape}, int64 {(record.spots, len(INDEX))} is wanted")
        return
    start, stop, part, rank = (index[:, INDEX_COLUMN[name]] for name in ("counts_start", "counts_stop", "part", "rank"))
    wanted_start = np.concatenate([[0], stop[:-1]])
    for spot in np.flatnonzero((start != wanted_start) | (stop < start)):
        yield Problem(
            record.index, f"counts {start[spot]} to {stop[spot]}, should begin at {wanted_start[spot]}", int(spot)
        )
    if stop[-1] != nnz:
        yield Problem(record.index, f"the bounds end at {stop[-1]}, {record.counts} has {nnz} pairs")
    if not np.array_equal(np.sort(rank), np.arange(record.spots)):
        yield Problem(record.index, "the ranks are not each of 0 .. spots - 1 once")
        return
    by_rank = part[np.argsort(rank)]
    if by_rank[0] != 0 or by_rank[-1] != len(record.tars) - 1 or not np.isin(np.diff(by_rank), (0, 1)).all():
        yield Problem(record.index, f"the parts, by rank, should go from 0 to {len(record.tars) - 1} in order")


def check_counts(record: SlideRecord, pairs: np.ndarray, index: np.ndarray, panel: np.ndarray) -> Iterator[Problem]:
    """Check that pairs are of measured genes, ascending within a spot, with counts above zero."""
    if pairs.dtype not in (np.uint16, np.uint32) or pairs.ndim != 2 or pairs.shape[0] != 2:
        yield Problem(record.counts, f"is {pairs.dtype} {pairs.shape}, uint16 or uint32 (2, pairs) is wanted")
        return
    genes, counts = np.asarray(pairs[0]), np.asarray(pairs[1])
    starts, stops = index[:, INDEX_COLUMN["counts_start"]], index[:, INDEX_COLUMN["counts_stop"]]
    spot_of = np.repeat(np.arange(record.spots), np.maximum(stops - starts, 0))[: len(genes)]
    if len(spot_of) != len(genes):
        return  # check_index has said so
    place = np.minimum(np.searchsorted(panel, genes), len(panel) - 1)
    for wrong, what in (
        (panel[place] != genes, "a gene index that the slide did not measure, or beyond the gene table"),
        (counts == 0, "a count of zero"),
        (np.r_[False, (np.diff(genes.astype(np.int64)) <= 0) & (np.diff(spot_of) == 0)], "genes that do not ascend"),
    ):
        for spot in np.unique(spot_of[wrong]):
            yield Problem(record.counts, what, int(spot))
