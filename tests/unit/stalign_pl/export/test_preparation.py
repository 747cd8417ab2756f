"""A slide without shards gets the input that training makes of it with them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import sparse

from stalign_pl.batch.spot_batch import SpotBatch
from stalign_pl.data.datamodule import STAlignData
from stalign_pl.data.pictures.colour import SlideColour
from stalign_pl.errors import ConfigError
from stalign_pl.export.preparation import Preparation, SlideSpots, find_panel_columns
from tests.support.panels import plain_panel
from tests.support.shard_spots import as_user, read_rows

ROWS, SLIDE = 12, 2
ARGUMENTS = ("spot_image", "spot_genes", "niche_image", "niche_genes", "measured")


@pytest.fixture(scope="module")
def preparation(tiny_data: STAlignData) -> Preparation:
    mean, sd = tiny_data.slide_tables.common_colour.unbind(dim=1)
    return Preparation(
        *(32, 32, "bilinear", "bilinear", SlideColour(mean.numpy(), sd.numpy()), tiny_data.vocabulary.share),
        *(tiny_data.vocabulary.total, tiny_data.niche, (1.0, 1.0), (1.0, 1.0)),
    )


@pytest.fixture(scope="module")
def rows(tiny_data: STAlignData) -> SpotBatch:
    return read_rows(tiny_data, SLIDE, ROWS)


def order(data: STAlignData) -> np.ndarray:
    return np.random.default_rng(4).permutation(len(data.shard_set.genes))


def test_the_input_is_that_of_training(tiny_data: STAlignData, preparation: Preparation, rows: SpotBatch) -> None:
    spots = as_user(tiny_data, SLIDE, rows, order(tiny_data))
    batches = list(preparation.batches(spots, tiny_data.gene_panel, 5))
    assert [len(batch.measured) for batch in batches] == [5, 5, 2]
    wanted = tiny_data.transform(rows)
    for name in ARGUMENTS:
        found = torch.cat([getattr(batch, name) for batch in batches])
        torch.testing.assert_close(found, getattr(wanted.model, name), rtol=0, atol=1e-6)
    assert wanted.model.spot_genes.count_nonzero() > 100


def test_sparse_counts_and_columns_of_one_gene(
    tiny_data: STAlignData, preparation: Preparation, rows: SpotBatch
) -> None:
    plain = as_user(tiny_data, SLIDE, rows, order(tiny_data))
    halves = (plain.counts // 2, plain.counts - plain.counts // 2)  # the same gene twice, as id and as symbol
    twice = replace(
        plain,
        counts=sparse.coo_matrix(np.concatenate(halves, axis=1)),
        niche_counts=sparse.csr_matrix(np.concatenate((plain.niche_counts, 0 * plain.niche_counts), axis=1)),
        genes=[*plain.genes, *plain.genes],
    )
    found, wanted = (next(preparation.batches(each, tiny_data.gene_panel, ROWS)) for each in (twice, plain))
    for name in ARGUMENTS:
        torch.testing.assert_close(getattr(found, name), getattr(wanted, name), rtol=0, atol=0)


def test_genes_that_a_slide_did_not_measure(tiny_data: STAlignData, preparation: Preparation, rows: SpotBatch) -> None:
    known = np.sort(tiny_data.vocabulary.genes)[:11]
    spots = as_user(tiny_data, SLIDE, rows, known)
    found = next(preparation.batches(spots, tiny_data.gene_panel, ROWS))
    measured = np.isin(tiny_data.vocabulary.genes, known)
    share = tiny_data.vocabulary.share
    counts = spots.counts[:, 1:]
    target = 1e4 * share[measured].sum() / share.sum()
    wanted = np.log1p(counts / counts.sum(axis=1, keepdims=True) * target)
    np.testing.assert_array_equal(found.measured[0].numpy(), measured)
    np.testing.assert_allclose(found.spot_genes.numpy()[:, measured], wanted, rtol=1e-5)
    assert not found.spot_genes[:, ~measured].any()


def test_a_slides_colour_is_that_of_its_own_pictures(tiny_data: STAlignData, preparation: Preparation) -> None:
    whole = read_rows(tiny_data, SLIDE, 64)
    given = as_user(tiny_data, SLIDE, whole, order(tiny_data))
    own = replace(given, colour=None)
    found, wanted = (next(preparation.batches(each, tiny_data.gene_panel, 64)) for each in (own, given))
    torch.testing.assert_close(found.niche_image, wanted.niche_image, rtol=0, atol=1e-5)


def test_what_is_not_given_is_none(tiny_data: STAlignData, preparation: Preparation, rows: SpotBatch) -> None:
    full = as_user(tiny_data, SLIDE, rows, order(tiny_data))
    pictures = next(preparation.batches(SlideSpots(full.spot_image), tiny_data.gene_panel, 4))
    assert [name for name in ARGUMENTS if getattr(pictures, name) is None] == list(ARGUMENTS[1:])
    counts = next(preparation.batches(SlideSpots(counts=full.counts, genes=full.genes), tiny_data.gene_panel, 4))
    assert [name for name in ARGUMENTS if getattr(counts, name) is not None] == ["spot_genes", "measured"]


def test_names_of_genes() -> None:
    panel = replace(plain_panel(3), symbols=("A", "B", "A"), ids=("ENSG01", "", "ENSG03"))
    names = ["A", "ENSG03.12", "B", "b", "ENSG01", ""]
    assert find_panel_columns(panel, names).tolist() == [0, 2, 1, -1, 0, -1]


PICTURES = np.zeros((4, 9, 9, 3), np.uint8)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "neither pictures nor counts"),
        ({"spot_image": PICTURES.astype(np.float32)}, r"spot_image is float32 .* uint8 \[4, side, side, 3\]"),
        ({"spot_image": PICTURES[:3], "niche_image": PICTURES}, r"uint8 \[4, 9, 9, 3\]; uint8 \[3, side, side, 3\]"),
        ({"counts": np.ones((4, 2)), "genes": {"A", "B"}}, "genes is a set; a list of names"),
        ({"counts": np.ones((4, 2)), "genes": None}, "genes is a NoneType"),
        ({"counts": np.ones((4, 2)), "genes": "AB"}, "genes is a str"),
        ({"counts": np.ones((4, 2)), "genes": {"A": 0, "B": 1}}, "genes is a dict"),
        ({"spot_image": PICTURES, "colour": ([0.5] * 3, [0.1] * 3)}, r"colour is a tuple; a SlideColour\(mean, sd\)"),
        ({"spot_image": PICTURES, "niche_image": PICTURES[:, :8]}, "niche_image is uint8"),
        ({"spot_image": PICTURES, "counts": np.zeros((4, 2)), "genes": ["A"]}, r"counts is \[4, 2\].*\[4, 1\]"),
        ({"spot_image": PICTURES, "niche_box": np.zeros((4, 4))}, "niche_image, which is None"),
        ({"niche_image": PICTURES, "niche_box": np.zeros(4)}, r"niche_box is float64 \[4\]; .*numbers, \[N, 4\]"),
        ({"niche_image": PICTURES, "niche_box": np.zeros((3, 4))}, r"niche_box is \[3, 4\]; \[4, 4\]"),
        ({"niche_image": PICTURES, "niche_box": [[0], [0, 1]]}, "niche_box is a list; a numpy array of numbers"),
        (
            {"niche_image": PICTURES, "niche_box": np.array([[0, 0, 9, 9]] * 3 + [[0, 2, 9.5, 9]])},
            r"niche_box of spot 3 is \[0.0, 2.0, 9.5, 9.0\]; .* within the picture's 9 px",
        ),
        ({"niche_image": PICTURES, "niche_box": np.full((4, 4), np.nan)}, "niche_box of spot 0 is"),
        (
            {"spot_image": PICTURES, "counts": [[1], [2], [3], [4]], "genes": ["A"]},
            "counts is a list; a numpy array or scipy sparse matrix of numbers",
        ),
        ({"spot_image": PICTURES, "counts": np.array([["1"]] * 4), "genes": ["A"]}, r"counts is <U1 \[4, 1\]"),
        (
            {"spot_image": "spots.png"},
            r"spot_image is a str; a numpy array of numbers, \[N, side, side, 3\], is wanted",
        ),
        ({"spot_image": PICTURES[:, :0, :0]}, r"spot_image is uint8 \[4, 0, 0, 3\]"),
        ({"spot_image": PICTURES[:0]}, "has no spot"),
    ],
)
def test_spots_that_are_refused(changes: dict, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        SlideSpots(**changes)


def test_a_colour_is_three_numbers_each() -> None:
    colour = SlideColour([0.5, 0.4, 0.6], [0.1, 0.2, 0.1])
    assert (colour.mean.dtype, colour.sd.dtype) == (np.float32, np.float32)
    for mean, sd in (
        ([0.5], [0.1] * 3),
        ([0.5] * 3, [0.1, 0, 0.1]),
        ([128.0] * 3, [0.1] * 3),
        (["red"] * 3, [0.1] * 3),
    ):
        with pytest.raises(ConfigError, match=r"red, green and blue in \[0, 1\]"):
            SlideColour(mean, sd)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"counts": np.full((4, 1), -1), "genes": ["GENE1"]}, "raw counts are wanted"),
        ({"niche_counts": np.full((4, 1), -1), "genes": ["GENE1"]}, "niche_counts are negative"),
        ({"counts": np.full((4, 1), 0.69), "genes": ["GENE1"]}, "counts hold fractions, 0.69 first; raw counts"),
        ({"counts": np.ones((4, 1)), "genes": ["nothing"]}, r"none of the 1 genes .*nothing.*GENE1"),
        ({"niche_image": PICTURES, "spot_image": None}, "give SlideSpots its `colour`"),
    ],
)
def test_input_that_is_refused(preparation: Preparation, changes: dict, said: str) -> None:
    spots = SlideSpots(**{"spot_image": PICTURES} | changes)
    plain = replace(preparation, share=np.ones(30))
    with pytest.raises(ConfigError, match=said):
        next(plain.batches(spots, plain_panel(30), 4))
