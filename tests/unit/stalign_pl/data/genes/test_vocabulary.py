"""Which genes a vocabulary keeps: `always` decides membership, never the order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stalign_pl.data.genes.selection import GeneSelection, choose_genes, rank_genes
from stalign_pl.data.genes.vocabulary import build_vocabulary
from stalign_pl.data.shards.shard_set import ShardSet, SlideShard
from stalign_pl.errors import ConfigError
from stalign_pl.shard_format import GeneTable


@pytest.fixture(scope="module")
def training(tiny_shards: Path) -> tuple[list[SlideShard], GeneTable]:
    shards = ShardSet(str(tiny_shards))
    return list(shards.slides.values())[:2], shards.genes


def test_always_keeps_the_lowest_ranked_gene_at_its_rank(training: tuple[list[SlideShard], GeneTable]) -> None:
    slides, table = training
    ranked = rank_genes(slides, table, GeneSelection(n=10)).tolist()
    wanted = (table.symbols[ranked[-1]], table.ids[ranked[2]])  # one by symbol, one by Ensembl id that is in anyway
    chosen = choose_genes(slides, table, GeneSelection(n=10, always=wanted)).tolist()
    assert chosen == [*ranked[:9], ranked[-1]]
    vocabulary = build_vocabulary(slides, table, GeneSelection(n=10, always=wanted))
    assert vocabulary.ranked.tolist() == chosen
    assert vocabulary.genes.tolist() == sorted(chosen)


def test_without_a_number_all_measured_genes_are_kept(training: tuple[list[SlideShard], GeneTable]) -> None:
    slides, table = training
    selection = GeneSelection(n=None, always=(table.symbols[3],))
    measured = np.unique(np.concatenate([slide.panel for slide in slides]))
    assert sorted(choose_genes(slides, table, selection)) == measured.tolist()


def test_more_named_genes_than_places_are_refused(training: tuple[list[SlideShard], GeneTable]) -> None:
    slides, table = training
    with pytest.raises(ConfigError, match=r"names 3 genes, data\.genes\.n is 2"):
        choose_genes(slides, table, GeneSelection(n=2, always=table.symbols[:3]))
