"""Niche counts by positions alone have the proportions of those that training reads."""

from __future__ import annotations

import anndata
import numpy as np
import pytest
from scipy import sparse
from scipy.spatial import cKDTree

from stalign_pl.data.datamodule import STAlignData
from stalign_pl.data.niche import NicheConfig
from stalign_pl.data.reader import BatchReader
from stalign_pl.errors import ConfigError
from stalign_pl.niche_counts import niche_counts

WHOLE_RINGS = {"k": None, "rings": 2}


def distances(xy: np.ndarray, reach: float) -> sparse.coo_matrix:
    tree = cKDTree(xy)
    return tree.sparse_distance_matrix(tree, reach, output_type="coo_matrix")


@pytest.mark.parametrize(
    "niche",
    [
        NicheConfig(**WHOLE_RINGS),
        NicheConfig(**WHOLE_RINGS, weights="ring"),
        NicheConfig(**WHOLE_RINGS, weights="distance", leave_target_out=True),
        NicheConfig(**WHOLE_RINGS, weights=0.33, even_depth=True),
        NicheConfig(**WHOLE_RINGS, even_depth=True, leave_target_out=True),
        NicheConfig(k=6, rings=1, weights=0.5),
    ],
)
@pytest.mark.parametrize("kind", [np.asarray, sparse.csc_matrix])
def test_as_the_training_reader(tiny_data: STAlignData, niche: NicheConfig, kind) -> None:
    shard = tiny_data.shard_set.slides[0]
    batch = BatchReader({0: shard}, niche, threads=1).read(np.zeros(len(shard), np.int64), np.arange(len(shard)), 0)
    data = anndata.read_h5ad(shard.folder / shard.record.h5ad)
    wanted = np.zeros((len(shard), len(tiny_data.shard_set.genes)))
    pairs = batch.niche_counts
    np.add.at(wanted, (batch.spot.numpy()[pairs.row.numpy()], pairs.gene.numpy()), pairs.count.numpy())
    wanted = wanted[:, data.var["gene_index"].to_numpy()]
    found = niche_counts(kind(data.X.toarray()), distances(shard.xy, niche.rings + 0.1), niche).toarray()
    share = found.sum(axis=1, keepdims=True) / wanted.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found, share * wanted, rtol=1e-6)
    assert set(np.unique(share)) <= {1.0, 16.0}  # sums that nothing weighs are read as they are


def test_what_does_not_go_together() -> None:
    apart = distances(np.array([[0.0, 0], [1, 0], [0, 1]]), 2.1)
    with pytest.raises(ConfigError, match=r"apart is \[3, 3\]; spots by spots, \[2, 2\]"):
        niche_counts(np.ones((2, 5)), apart, NicheConfig(k=None))
    with pytest.raises(ConfigError, match="apart has 2 neighbours of spot 0; the model's niches have 1"):
        niche_counts(np.ones((3, 5)), apart, NicheConfig(k=1))
