"""Niche counts by positions alone have the proportions of those that training reads."""

from __future__ import annotations

from collections.abc import Callable

import anndata
import numpy as np
import pytest
from scipy import sparse
from scipy.spatial import cKDTree

from stalign_pl.data.datamodule import STAlignData
from stalign_pl.data.niches.config import NicheConfig
from stalign_pl.data.niches.of_slide import sum_niche_counts
from stalign_pl.data.reading.reader import BatchReader
from stalign_pl.errors import ConfigError

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
        NicheConfig(**WHOLE_RINGS, weights=(0.15, 0.11), even_depth=True),
        NicheConfig(**WHOLE_RINGS, even_depth=True, leave_target_out=True),
        NicheConfig(k=6, rings=1, weights=0.5),
    ],
)
@pytest.mark.parametrize("kind", [np.asarray, sparse.csc_matrix])
def test_as_the_training_reader(
    tiny_data: STAlignData, niche: NicheConfig, kind: Callable[[np.ndarray], np.ndarray | sparse.csc_matrix]
) -> None:
    shard = tiny_data.shard_set.slides[0]
    batch = BatchReader({0: shard}, niche, threads=1).read(np.zeros(len(shard), np.int64), np.arange(len(shard)), 0)
    data = anndata.read_h5ad(shard.folder / shard.record.h5ad)
    wanted = np.zeros((len(shard), len(tiny_data.shard_set.genes)))
    pairs = batch.niche_counts
    np.add.at(wanted, (batch.spot.numpy()[pairs.row.numpy()], pairs.gene.numpy()), pairs.count.numpy())
    wanted = wanted[:, data.var["gene_index"].to_numpy()]
    found = sum_niche_counts(kind(data.X.toarray()), distances(shard.xy, niche.rings + 0.1), niche).toarray()
    share = found.sum(axis=1, keepdims=True) / wanted.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found, share * wanted, rtol=1e-6)
    assert set(np.unique(share)) <= {1.0, 16.0}  # sums that nothing weighs are read as they are


SPOTS = np.array([[0.0, 0], [1, 0], [0, 1]])
NEAR = distances(SPOTS, 2.1)


@pytest.mark.parametrize(
    ("counts", "apart", "niche", "said"),
    [
        (np.ones((2, 5)), NEAR, {}, r"apart is float64 \[3, 3\]; a scipy sparse matrix .*\[2, 2\]"),
        (np.ones((3, 5)), NEAR.astype(bool), {}, "apart is bool"),
        (np.ones((3, 5)), sparse.triu(NEAR), {}, "spot 1 near spot 0 and not the other way round"),
        (np.ones((3, 5)), {(0, 1): 1.0}, {}, "apart is a dict"),
        (np.ones((3, 5)), NEAR, {"k": 1}, "apart has 2 neighbours of spot 0; the model's niches have 1"),
        (np.ones((3, 5)), distances(100 * SPOTS, 210), {}, r"nearest spot 100 away \(median\); distances in pitches"),
        (np.ones((3, 5)), sparse.coo_matrix((3, 3)), {}, "no distance between two spots"),
        (np.ones((3, 5)), -NEAR, {}, "negative"),
        (np.ones((3, 5)), distances(SPOTS, 1.05), {"rings": 2}, "apart reaches 1 pitches; the model's niches reach 2"),
        (np.full((3, 5), 0.5), NEAR, {}, "counts hold fractions, 0.5 first; raw counts"),
        (np.full((3, 5), np.nan), NEAR, {}, "not finite"),
        ([[1], [2], [3]], NEAR, {}, "counts is a list; a numpy array or scipy sparse matrix of numbers"),
        (np.ones(3), NEAR, {}, r"counts is float64 \[3\]; a numpy array"),
        (np.ma.masked_array(np.ones((3, 5))), NEAR, {}, "counts is a masked array"),
        (np.array([["1"]] * 3), NEAR, {}, r"counts is <U1 \[3, 1\]"),
    ],
)
def test_what_is_refused(counts: object, apart: object, niche: dict, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        sum_niche_counts(counts, apart, NicheConfig(**{"k": None} | niche))


@pytest.mark.parametrize("kind", ["float16", ">f4", ">i4", "uint8"])
def test_counts_of_any_number_type(kind: str) -> None:
    counts = np.arange(15).reshape(3, 5)
    wanted = sum_niche_counts(counts, NEAR, NicheConfig(k=None))
    assert (sum_niche_counts(counts.astype(kind), NEAR, NicheConfig(k=None)) != wanted).nnz == 0


def test_another_niche_is_refused() -> None:
    with pytest.raises(ConfigError, match="niche is a dict; a NicheConfig"):
        sum_niche_counts(np.ones((3, 5)), NEAR, {"k": 3})


def test_a_pair_named_twice() -> None:
    twice = sparse.coo_matrix((np.ones(2), ([0, 0], [1, 1])), (3, 3))
    with pytest.raises(ConfigError, match="twice"):
        sum_niche_counts(np.ones((3, 5)), twice, NicheConfig(k=None))
