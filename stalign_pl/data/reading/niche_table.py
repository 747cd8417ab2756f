"""Niche counts of a slide's spots as a table: the input of the niche's gene encoder, for baselines that use it, too."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stalign_pl.data.niches.config import NicheConfig
from stalign_pl.data.reading.reader import BatchReader
from stalign_pl.data.shards.shard_set import SlideShard

if TYPE_CHECKING:
    from scipy import sparse

ROWS = 256
"""Spots read together. The members' counts lie side by side before they are added up: 600 kB a spot, of two rings with
4,000 detected genes each."""


def read_niche_sums(
    shard: SlideShard, niche: NicheConfig, genes: int, panel: np.ndarray, ranks: np.ndarray | None = None
) -> sparse.csr_matrix:
    """Sum the counts over each spot's niche, weighted as `niche` says, by the reader that training uses.

    Args:
        shard: the slide.
        niche: which neighbours make a niche.
        genes: G, genes of the shard set.
        panel: int [P], the genes that are kept. A spot's depth is the sum over all genes.
        ranks: int [n], places in the tar order; all by default.

    Returns:
        CSR [n, G] int32, in the order of the spots' indices. A damaged sample's row is empty.

    Raises:
        ConfigError: rings that the shards do not hold.
        ShardError: a truncated tar, by file.
    """
    from scipy import sparse

    ranks = np.arange(len(shard)) if ranks is None else np.asarray(ranks)
    kept = np.zeros(genes, bool)
    kept[panel] = True
    reader = BatchReader({shard.record.number: shard}, niche, threads=1, decoded=())
    parts = [sparse.csr_matrix((0, genes), dtype=np.int32)]
    for start in range(0, len(ranks), ROWS):
        some = ranks[start : start + ROWS]
        pairs = reader.read(np.full(len(some), shard.record.number), some, epoch=0).niche_counts
        gene = pairs.gene.numpy()
        of_panel = kept[gene]
        row, count = pairs.row.numpy()[of_panel], pairs.count.numpy()[of_panel]
        table = sparse.coo_matrix((count.astype(np.int32), (row, gene[of_panel])), (len(some), genes))
        parts.append(sparse.csr_matrix(table))  # which adds up the counts of one gene
    reader.close()
    return sparse.csr_matrix(sparse.vstack(parts, format="csr"))[np.argsort(shard.spot_of_rank[ranks])]
