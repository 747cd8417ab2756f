"""The device's half of reading against Pillow and numpy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from stalign_pl.batch.spot_batch import CountPairs
from stalign_pl.data.datamodule import STAlignData
from stalign_pl.data.niches.config import NicheConfig
from stalign_pl.data.pictures.augmentation import Augmentation, shuffle_within_slide
from stalign_pl.data.pictures.resize import Interpolation, crop_and_resize
from stalign_pl.data.reading.reader import BatchReader
from stalign_pl.models import MissingGenes


def picture(side: int, seed: int = 0) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC))


def in_corner(pixels: np.ndarray, side: int) -> torch.Tensor:
    canvas = np.zeros((1, side, side, 3), np.uint8)
    canvas[0, : len(pixels), : len(pixels)] = pixels
    return torch.from_numpy(canvas)


@pytest.mark.parametrize("size", [20, 48, 60, 96])
def test_resizing_a_box_is_what_pillow_does(size: int) -> None:
    pixels = picture(60)
    box = (10, 6, 50, 46)
    wanted = np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR, box=box), float)
    found = crop_and_resize(in_corner(pixels, 75), torch.tensor([box]).float(), torch.tensor([60.0]), size)[0]
    inside = slice(2, -2)  # Pillow sees no pixel beyond the box, we do
    difference = np.abs(found.permute(1, 2, 0).numpy() * 255 - wanted)[inside, inside]
    assert difference.max() < 2.5


@pytest.mark.parametrize("size", [20, 33, 48, 60, 96])
def test_bicubic_is_what_pillow_and_torchvision_do(size: int) -> None:
    """To the border of the picture. Pillow rounds between its two passes."""
    pixels = picture(60)
    box = torch.tensor([[0.0, 0, 60, 60]])
    found = crop_and_resize(in_corner(pixels, 75), box, torch.tensor([60.0]), size, interpolation="bicubic")[0]
    wanted = np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC), float)
    assert np.abs(found.permute(1, 2, 0).numpy() * 255 - wanted).max() < 2
    given = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].double() / 255
    exact = torch.nn.functional.interpolate(given, (size, size), mode="bicubic", antialias=True)[0]
    torch.testing.assert_close(found.double(), exact.clamp(0, 1), rtol=0, atol=2e-5)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_a_box_within_the_picture_sees_beyond_itself(interpolation: Interpolation) -> None:
    """Half of a picture, resized, is half of the picture resized."""
    pixels, px = picture(60), torch.tensor([60.0])
    whole = crop_and_resize(in_corner(pixels, 60), torch.tensor([[0.0, 0, 60, 60]]), px, 40, None, interpolation)
    half = crop_and_resize(in_corner(pixels, 60), torch.tensor([[30.0, 0, 60, 30]]), px, 20, None, interpolation)
    torch.testing.assert_close(half, whole[:, :, :20, 20:])


def test_the_whole_picture_at_its_own_size_is_itself() -> None:
    pixels = picture(40)
    found = crop_and_resize(in_corner(pixels, 64), torch.tensor([[0.0, 0, 40, 40]]), torch.tensor([40.0]), 40)[0]
    np.testing.assert_allclose(found.permute(1, 2, 0).numpy() * 255, pixels, atol=1e-3)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_a_box_beyond_the_picture_repeats_its_border(interpolation: Interpolation) -> None:
    pixels = np.full((10, 10, 3), 200, np.uint8)
    box, px = torch.tensor([[-5.0, -5, 30, 30]]), torch.tensor([10.0])
    found = crop_and_resize(in_corner(pixels, 32), box, px, 16, interpolation=interpolation)
    np.testing.assert_allclose(found.numpy() * 255, 200, atol=1e-3)


@pytest.mark.parametrize("turn", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0)])
def test_turns_are_those_of_the_dihedral_group(turn: tuple[int, int, int]) -> None:
    pixels = picture(24)
    image, box, px = in_corner(pixels, 24), torch.tensor([[0.0, 0, 24, 24]]), torch.tensor([24.0])
    plain = crop_and_resize(image, box, px, 24)[0]
    wanted = plain
    if turn[1]:
        wanted = wanted.flip(2)
    if turn[2]:
        wanted = wanted.flip(1)
    if turn[0]:
        wanted = wanted.transpose(1, 2)
    found = crop_and_resize(image, box, px, 24, torch.tensor([turn]).bool())[0]
    torch.testing.assert_close(found, wanted)
    assert not torch.allclose(found, plain)


def test_shuffled_pairs_stay_in_their_slide_and_move_everybody() -> None:
    table = torch.tensor([2, 0, 2, 0, 1, 2, 0, 0])
    valid = torch.ones(8, dtype=torch.bool)
    partner = shuffle_within_slide(table, valid, torch.rand(8, 16, generator=torch.manual_seed(0)))
    assert sorted(partner.tolist()) == list(range(8))
    assert (table[partner] == table).all()
    moved = partner != torch.arange(8)
    assert moved.tolist() == [True, True, True, True, False, True, True, True]  # slide 1 has a single spot


@pytest.mark.parametrize(("shuffle", "partners"), [("none", 0), ("image_gene", 1), ("all", 3)])
def test_shuffled_levels_hold_no_pair(data: STAlignData, shuffle: str, partners: int) -> None:
    """Which spot each of a row's four members comes from, told by its values, without other changes to the pictures."""
    slide = next(iter(data.train_slides.values()))
    still = dict.fromkeys(("zoom", "shift", "brightness", "contrast", "stain"), 0.0)
    reader = BatchReader(data.train_slides, data.niche, Augmentation().draws(0))
    batch = reader.read(np.full(16, slide.record.number), np.arange(16), epoch=0)
    plain = data.transform(batch)
    found = data.transform(batch, Augmentation(flips=False, **still, shuffle_pairs=shuffle))
    origin = []
    for name in ("spot_image", "spot_genes", "niche_genes", "niche_image"):
        rows, known = (getattr(inputs.model, name).flatten(1) for inputs in (found, plain))
        distance = torch.cdist(rows, known)
        assert distance.min(dim=1).values.max() < 1e-3
        origin.append(distance.argmin(dim=1).tolist())
    assert origin[0] == list(range(16))
    assert all(len(set(row)) == partners + 1 for row in zip(*origin, strict=True))
    assert (origin[1] == origin[2]) == (shuffle != "all")


@pytest.fixture(scope="module")
def data(tiny_shards: Path) -> STAlignData:
    return STAlignData(
        str(tiny_shards), 32, 48, val_patients=["P2"], test_patients=["P3"], niche=NicheConfig(k=6), fit_spots=40
    )


def test_expression_is_log_cp10k_and_a_stream_standardises_it_by_training_statistics(data: STAlignData) -> None:
    slide = next(iter(data.val_slides.values()))
    reader = BatchReader({slide.record.number: slide}, data.niche)
    batch = reader.read(np.full(len(slide), slide.record.number), np.arange(len(slide)), epoch=0)
    inputs = data.transform(batch)
    counts = slide.csr(len(data.shard_set.genes)).toarray()[:, data.vocabulary.genes].astype(float)
    library = np.maximum(counts.sum(axis=1, keepdims=True), 1)
    wanted = np.log1p(counts * 1e4 / library)[batch.spot.numpy()]
    np.testing.assert_allclose(inputs.model.spot_genes.numpy(), wanted, atol=1e-5)
    assert inputs.model.measured.all()
    panel, names = data.gene_panel, data.shard_set.genes
    assert panel.symbols == tuple(names.symbols[gene] for gene in data.vocabulary.genes)
    assert panel.ids == tuple(names.ids[gene] for gene in data.vocabulary.genes)
    standardised = MissingGenes(panel)(inputs.model.spot_genes, inputs.model.measured).detach().numpy()
    training = (wanted - data.vocabulary.mean) / data.vocabulary.sd
    np.testing.assert_allclose(standardised, training.clip(-10, 10), atol=2e-4)
    assert inputs.model.spot_image.shape == (len(slide), 3, 32, 32)
    assert inputs.model.niche_image.shape == (len(slide), 3, 48, 48)
    assert float(inputs.model.niche_image.min()) >= 0
    assert float(inputs.model.niche_image.max()) <= 1


def test_counts_as_stored_add_up_as_wide_ones(data: STAlignData) -> None:
    slide = next(iter(data.val_slides.values()))
    batch = BatchReader({slide.record.number: slide}, data.niche).read(np.full(8, slide.record.number), np.arange(8), 0)
    stored = batch.spot_counts
    assert stored.count.dtype == torch.uint16
    stored.count.numpy()[stored.gene.numpy() == int(data.vocabulary.genes[0])] = 65_535
    wide = replace(batch, spot_counts=CountPairs(stored.length, stored.gene.int(), stored.count.int()))
    found, wanted = (data.transform(one).model.spot_genes for one in (batch, wide))
    assert torch.equal(found, wanted)
    assert found[:, 0].max() > 9.2  # log1p(1e4): the gene is nearly all there is


def test_each_picture_is_resized_as_its_option_says(data: STAlignData, tiny_shards: Path) -> None:
    slide = next(iter(data.val_slides.values()))
    reader = BatchReader({slide.record.number: slide}, data.niche)
    batch = reader.read(np.full(4, slide.record.number), np.arange(4), epoch=0)
    other = STAlignData(str(tiny_shards), 32, 48, ["P2"], ["P3"], niche_interpolation="bicubic").transform(batch)
    plain = data.transform(batch)
    assert torch.equal(other.model.spot_image, plain.model.spot_image)
    cubic = crop_and_resize(batch.niche_image, batch.niche_box, batch.niche_px, 48, interpolation="bicubic")
    torch.testing.assert_close(other.model.niche_image, data.transform._recolour(cubic, batch.table))
    assert not torch.allclose(other.model.niche_image, plain.model.niche_image, atol=1e-3)


def test_without_augmentation_a_row_depends_on_its_spot_alone(data: STAlignData) -> None:
    slide = next(iter(data.val_slides.values()))
    reader = BatchReader({slide.record.number: slide}, data.niche)
    numbers = np.full(12, slide.record.number)
    one = data.transform(reader.read(numbers, np.arange(12), epoch=0))
    other = data.transform(reader.read(numbers[:5], np.array([11, 3, 7, 0, 1]), epoch=9))
    rows = [11, 3, 7, 0, 1]
    torch.testing.assert_close(other.model.spot_image, one.model.spot_image[rows])
    torch.testing.assert_close(other.model.niche_genes, one.model.niche_genes[rows])


def test_augmentation_is_drawn_by_spot_and_epoch(data: STAlignData) -> None:
    slide = next(iter(data.train_slides.values()))
    augmentation = Augmentation()
    reader = BatchReader(data.train_slides, data.niche, augmentation.draws(0))
    numbers = np.full(12, slide.record.number)
    one = data.transform(reader.read(numbers, np.arange(12), epoch=0), augmentation)
    again = data.transform(reader.read(numbers[:3], np.array([4, 5, 6]), epoch=0), augmentation)
    later = data.transform(reader.read(numbers[:3], np.array([4, 5, 6]), epoch=1), augmentation)
    torch.testing.assert_close(again.model.spot_image, one.model.spot_image[4:7])
    assert not torch.allclose(later.model.spot_image, again.model.spot_image, atol=1e-2)


def test_the_vocabulary_knows_training_slides_alone(data: STAlignData, tiny_shards: Path) -> None:
    fewer = STAlignData(str(tiny_shards), train_patients=["P1"], val_patients=["P2"])
    np.testing.assert_array_equal(fewer.vocabulary.mean, data.vocabulary.mean)
    assert fewer.vocabulary.digest() == data.vocabulary.digest()
    swapped = STAlignData(str(tiny_shards), train_patients=["P2"], val_patients=["P1"])
    assert not np.array_equal(swapped.vocabulary.mean, data.vocabulary.mean)
