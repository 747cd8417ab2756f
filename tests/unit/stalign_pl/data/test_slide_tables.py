"""Slides that measured different genes: what is absent from a panel is not a zero, and one gene has one scale."""

from __future__ import annotations

import shutil
from pathlib import Path

import anndata
import h5py
import numpy as np
import pytest
from scipy import sparse

from data_prep.build.build import build
from data_prep.build.config import BuildConfig, SourceEntry
from stalign_pl.batch.inputs import StepInputs
from stalign_pl.data.datamodule import STAlignData
from stalign_pl.data.genes.selection import GeneSelection
from stalign_pl.data.niches.config import NicheConfig
from stalign_pl.data.reading.reader import BatchReader
from stalign_pl.data.slide_tables import read_slide_colour
from stalign_pl.errors import ConfigError
from tests.support.tiny_cohort import GENES, write_matrix

KEPT = np.arange(0, GENES, 4)
"""The genes that tiny_2 measured: one in four."""


@pytest.fixture(scope="module")
def shards(tiny_cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("panels")
    cohort = Path(shutil.copytree(tiny_cohort, folder / "cohort"))
    path = cohort / "tiny_2" / "filtered_feature_bc_matrix.h5"
    with h5py.File(path) as file:
        matrix = file["matrix"]
        parts = (matrix["data"][:], matrix["indices"][:], matrix["indptr"][:])
        counts = sparse.csr_matrix(parts, shape=(len(matrix["barcodes"]), GENES)).toarray()
        barcodes = [name.decode() for name in matrix["barcodes"][:]]
        ids, symbols = ([name.decode() for name in matrix[f"features/{key}"][:]] for key in ("id", "name"))
    kept = [[names[gene] for gene in KEPT] for names in (ids, symbols)]
    write_matrix(path, barcodes, *kept, counts[:, KEPT])
    report = build(BuildConfig(sources=(SourceEntry("space_ranger", cohort),)), folder / "set")
    assert report.failed == {}
    return folder / "set"


def data(shards: Path, **more: object) -> STAlignData:
    return STAlignData(str(shards), 32, 32, val_patients=["P2"], test_patients=["P3"], niche=NicheConfig(k=3), **more)


def whole_slide(data: STAlignData, number: int) -> StepInputs:
    slide = data.shard_set.slides[number]
    reader = BatchReader({number: slide}, data.niche)
    return data.transform(reader.read(np.full(len(slide), number), np.arange(len(slide)), epoch=0))


def test_unmeasured_genes_are_marked_and_hold_nothing(shards: Path) -> None:
    given = data(shards)
    (number,) = given.val_slides
    names = [given.shard_set.genes.names[gene] for gene in given.vocabulary.genes]
    known = np.isin(names, [f"GENE{gene + 1}" for gene in KEPT])
    assert 0 < known.sum() < len(names) == GENES
    inputs = whole_slide(given, number)
    np.testing.assert_array_equal(inputs.model.measured.numpy(), np.tile(known, (64, 1)))
    assert not inputs.model.spot_genes.numpy()[:, ~known].any()
    assert not inputs.model.niche_genes.numpy()[:, ~known].any()


def test_a_small_panel_is_scaled_to_its_part_of_ten_thousand(shards: Path, tiny_shards: Path) -> None:
    """The same slide, once with all genes: one value a gene in both, which CP10K on a quarter would not give."""
    given = data(shards)
    (number,) = given.val_slides
    vocabulary = given.vocabulary
    (training,) = given.train_slides.values()
    table = anndata.read_h5ad(training.folder / training.record.h5ad).X.toarray()
    share = (table / table.sum(axis=1, keepdims=True)).mean(axis=0)
    known = vocabulary.measured(given.shard_set.slides[number])
    gene_of_column = training.panel[np.searchsorted(training.panel, vocabulary.genes)]
    target = 1e4 * share[np.searchsorted(training.panel, gene_of_column)][known].sum() / share.sum()
    assert vocabulary.target_sum(known) == pytest.approx(target, rel=1e-6)
    assert 1000 < target < 5000
    few, all_genes = (whole_slide(each, number) for each in (given, data(tiny_shards)))
    small, large = (inputs.model.spot_genes.numpy()[:, known] for inputs in (few, all_genes))
    assert np.median(np.abs(small - large)) < 0.35
    assert np.log(1e4 / target) > 1  # the error of CP10K on the quarter


@pytest.mark.parametrize("target_sum", [500.0, None])
def test_expression_is_scaled_to_the_sum_asked_for(shards: Path, target_sum: float | None) -> None:
    """The training slide measured all genes: null is the median of its spots' counts over the vocabulary."""
    given = data(shards, genes=GeneSelection(n=None, target_sum=target_sum))
    (number, training), *_ = given.train_slides.items()
    counts = anndata.read_h5ad(training.folder / training.record.h5ad).X.toarray()
    counts = counts[:, np.searchsorted(training.panel, given.vocabulary.genes)]
    target = np.median(counts.sum(1)) if target_sum is None else target_sum
    expected = np.log1p(counts * target / counts.sum(1, keepdims=True))
    assert target < 2000
    inputs = whole_slide(given, number)
    np.testing.assert_allclose(inputs.model.spot_genes.numpy(), expected[inputs.ids.spot], atol=1e-5)
    np.testing.assert_allclose(given.vocabulary.mean, expected.mean(0), atol=1e-5)
    assert given.vocabulary.digest() != data(shards, genes=GeneSelection(n=None)).vocabulary.digest()


def test_a_sum_that_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"data\.genes\.target_sum is 0\.0; counts a spot, above 0"):
        GeneSelection(target_sum=0.0)


def test_held_out_slides_change_no_statistic(shards: Path, tiny_shards: Path) -> None:
    """The two sets differ in tiny_2 alone: held out, it changes nothing; in training, it does."""
    first, second = (data(folder).vocabulary for folder in (shards, tiny_shards))
    np.testing.assert_array_equal(first.ranked, second.ranked)
    np.testing.assert_array_equal(first.mean, second.mean)
    np.testing.assert_array_equal(first.sd, second.sd)
    np.testing.assert_array_equal(first.share, second.share)
    trained = [STAlignData(str(folder), train_patients=["P1", "P2"]).vocabulary for folder in (shards, tiny_shards)]
    assert not np.array_equal(trained[0].mean, trained[1].mean)


def test_colours_move_to_those_of_the_training_slides(tiny_shards: Path) -> None:
    moved, left = data(tiny_shards), data(tiny_shards, stain="none")
    (training,) = moved.train_slides.values()
    (number,) = moved.val_slides
    target, own = read_slide_colour(training), read_slide_colour(moved.shard_set.slides[number])
    shown, raw = (whole_slide(each, number).model.spot_image for each in (moved, left))
    gain = target.sd / own.sd
    expected = raw.numpy() * gain[:, None, None] + (target.mean - own.mean * gain)[:, None, None]
    np.testing.assert_allclose(shown.numpy(), expected.clip(0, 1), atol=1e-5)
    with pytest.raises(ConfigError, match=r"data.stain is 'macenko'; known: slide, none"):
        data(tiny_shards, stain="macenko")
