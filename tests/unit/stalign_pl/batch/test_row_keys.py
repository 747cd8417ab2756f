"""Hidden genes: drawn by spot and epoch, in spot and niche alike, among the measured ones alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from stalign_pl.batch.row_keys import GENE_MASK
from stalign_pl.data.datamodule import STAlignData
from stalign_pl.data.pictures.augmentation import Augmentation
from stalign_pl.data.reading.reader import BatchReader
from stalign_pl.draws import draw_uniform

STILL = {"flips": False, **dict.fromkeys(("zoom", "shift", "brightness", "contrast", "stain"), 0.0)}


@pytest.fixture(scope="module")
def data(tiny_shards: Path) -> STAlignData:
    return STAlignData(str(tiny_shards), 32, 48, val_patients=["P2"], test_patients=["P3"])


def test_hidden_genes_are_those_the_counter_function_names(data: STAlignData) -> None:
    augmentation = Augmentation(**STILL, mask_genes=0.3)
    (slide,) = data.train_slides.values()
    reader = BatchReader(data.train_slides, data.niche, augmentation.draws(0))
    batch = reader.read(np.append(np.full(30, slide.record.number), [-1, -1]), np.arange(32), epoch=4)
    data.transform.measured[slide.table, 5] = False
    plain, found = data.transform(batch, Augmentation(**STILL)), data.transform(batch, augmentation, seed=9, epoch=4)
    data.transform.measured[slide.table, 5] = True
    slides, spots = found.ids.slide.numpy(), found.ids.spot.numpy()
    hidden = torch.from_numpy(draw_uniform(9, 4, slides, spots, GENE_MASK, len(data.vocabulary)) < np.float32(0.3))
    assert 0.2 < hidden.float().mean() < 0.4
    assert torch.equal(found.model.measured, plain.model.measured & ~hidden)
    assert not found.model.measured[:, 5].any()
    for name in ("spot_genes", "niche_genes"):
        assert torch.equal(getattr(found.model, name), getattr(plain.model, name) * found.model.measured)
        assert torch.equal(getattr(found.targets, name.removesuffix("_genes")), getattr(plain.model, name))
    assert torch.equal(found.targets.measured, plain.model.measured)
    assert torch.equal(found.model.spot_image, plain.model.spot_image)


def test_nothing_is_hidden_by_default(data: STAlignData) -> None:
    (slide,) = data.train_slides.values()
    reader = BatchReader(data.train_slides, data.niche, Augmentation().draws(0))
    batch = reader.read(np.full(8, slide.record.number), np.arange(8), epoch=0)
    assert data.transform(batch, Augmentation(), seed=1, epoch=0).model.measured.all()
