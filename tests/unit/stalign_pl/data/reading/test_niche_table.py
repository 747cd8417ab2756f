"""Niche counts of a shard's spots, beside sums over neighbours that the shard's h5ad states."""

from __future__ import annotations

import shutil
from pathlib import Path

import anndata
import numpy as np
import pytest

from stalign_pl.data.niches.config import WHOLE, NicheConfig
from stalign_pl.data.reading import niche_table as module
from stalign_pl.data.reading.niche_table import read_niche_sums
from stalign_pl.data.shards.shard_set import ShardSet
from tests.support.damaged import overwrite


@pytest.fixture
def shards(tiny_shards: Path) -> ShardSet:
    return ShardSet(tiny_shards)


def by_graph(shards: ShardSet, slide: int, share: float) -> np.ndarray:
    """[N, G]: a spot's counts and `share` of its first ring's."""
    shard = shards.slides[slide]
    table = anndata.read_h5ad(shard.folder / shard.record.h5ad)
    ring = (table.obsp["spatial_connectivities"].toarray() != 0) * share + np.eye(len(shard))
    counts = np.zeros((len(shard), len(shards.genes)))
    counts[:, table.var["gene_index"].to_numpy()] = table.X.toarray()
    return ring @ counts


def test_sums_are_those_over_the_first_ring(shards: ShardSet) -> None:
    shard, genes = shards.slides[1], len(shards.genes)
    every = np.arange(genes)
    found = read_niche_sums(shard, NicheConfig(k=None), genes, every)
    np.testing.assert_array_equal(found.toarray(), by_graph(shards, 1, 1.0))
    weighed = read_niche_sums(shard, NicheConfig(k=None, weights=0.5), genes, every)
    np.testing.assert_array_equal(weighed.toarray(), WHOLE * by_graph(shards, 1, 0.5))


def test_some_spots_come_in_the_order_of_their_indices(shards: ShardSet, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many are read together; other genes than the panel's are left out."""
    monkeypatch.setattr(module, "ROWS", 3)
    shard, genes = shards.slides[0], len(shards.genes)
    ranks, panel = np.array([7, 1, 2, 11, 4]), np.array([3, 5, 20])
    found = read_niche_sums(shard, NicheConfig(k=None), genes, panel, ranks).toarray()
    wanted = by_graph(shards, 0, 1.0)[np.sort(shard.spot_of_rank[ranks])]
    np.testing.assert_array_equal(found[:, panel], wanted[:, panel])
    assert found.sum() == wanted[:, panel].sum()
    assert read_niche_sums(shard, NicheConfig(), genes, panel, np.zeros(0, np.int64)).shape == (0, genes)


def test_a_damaged_sample_has_no_niche(tiny_shards: Path, tmp_path: Path) -> None:
    """By its checksum: what was read of it could be another spot's."""
    folder = Path(shutil.copytree(tiny_shards, tmp_path / "set"))
    overwrite(folder, 0, 9, "niche", b"\x55\xaa\x55", 300)
    shards = ShardSet(folder)
    found = read_niche_sums(shards.slides[0], NicheConfig(k=None), len(shards.genes), np.arange(len(shards.genes)))
    assert np.flatnonzero(found.sum(axis=1) == 0).tolist() == [9]
