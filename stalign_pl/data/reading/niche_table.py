"""The niche counts of a shard's spots as a table: what the niche's gene encoder reads, for floors that read it too."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stalign_pl.data.niches.config import NicheConfig
from stalign_pl.data.reading.reader import BatchReader
from stalign_pl.data.shards.shard_set import SlideShard

if TYPE_CHECKING:
    from scipy import sparse

ROWS = 256
"""Read together: the members' counts lie side by side before they are added up, 600 kB a spot of two rings that count
4,000 genes each."""


def niche_sums(
    shard: SlideShard, niche: NicheConfig, genes: int, panel: np.ndarray, ranks: np.ndarray | None = None
) -> sparse.csr_matrix:
    """Each spot's counts summed over its niche, weighted as `niche` says, by the reader that training uses.

    Args:
        genes: G, of the set.
        panel: int [P], the genes that are kept. All say how deep a spot is.
        ranks: places in the tar order, all by default.

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
        parts.append(table.tocsr())  # of one gene, counts are added up
    reader.close()
    return sparse.vstack(parts, format="csr")[np.argsort(shard.spot_of_rank[ranks])]
