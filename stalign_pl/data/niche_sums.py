"""The niche counts of a shard's spots as a table: what the niche's gene encoder reads, for floors that read it too."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stalign_pl.data.niche import NicheConfig
from stalign_pl.data.reader import BatchReader
from stalign_pl.data.shards import SlideShard

if TYPE_CHECKING:
    from scipy import sparse

ROWS = 256
"""Read together: the members' counts lie side by side before they are added up, some 200 kB a spot of two rings."""


def niche_sums(shard: SlideShard, niche: NicheConfig, genes: int, ranks: np.ndarray | None = None) -> sparse.csr_matrix:
    """Each spot's counts summed over its niche, weighted as `niche` says, by the reader that training uses.

    Args:
        genes: G, of the set.
        ranks: places in the tar order, all by default.

    Returns:
        CSR [n, G] int64, in the order of the spots' indices. A spot whose neighbours cannot be read has no counts.

    Raises:
        ConfigError: rings that the shards do not hold.
        ShardError: a truncated tar, by file.
    """
    from scipy import sparse

    ranks = np.arange(len(shard)) if ranks is None else np.asarray(ranks)
    reader = BatchReader({shard.record.number: shard}, niche, threads=1, pictures=())
    parts = [sparse.csr_matrix((0, genes), dtype=np.int64)]
    for start in range(0, len(ranks), ROWS):
        some = ranks[start : start + ROWS]
        pairs = reader.read(np.full(len(some), shard.record.number), some, epoch=0).niche_counts
        ends = np.concatenate([[0], pairs.length.numpy().cumsum()])
        columns = (of.numpy().astype(np.int64) for of in (pairs.count, pairs.gene))
        part = sparse.csr_matrix((*columns, ends), (len(some), genes))
        part.sum_duplicates()
        parts.append(part)
    reader.close()
    return sparse.vstack(parts, format="csr")[np.argsort(shard.spot_of_rank[ranks])]
