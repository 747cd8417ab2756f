"""A corpus for the loader's benchmarks: one synthetic slide of full-size crops, and links to its files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import synthetic_slides as synthetic
from catalogue import link

from data_prep.genes import GeneNames, gene_axis
from data_prep.images import open_image
from data_prep.quality import ImageQuality
from data_prep.settings import BuildSettings, CropSettings
from data_prep.shards import write_slide
from stalign_pl.shard_format import Manifest

PITCH_PX = 400.0
"""0.25 um a pixel: a spot of 220 px and a niche of 1,200 px, stored as 224."""


def build_corpus(folder: Path, spots: int, slides: int) -> None:
    """A shard set of `slides` slides of `spots` spots each, all of them links to the first one's files."""
    folder.mkdir(parents=True)
    image = folder / "image.tif"
    width, height = synthetic.image_size(spots, PITCH_PX)
    synthetic.write_pyramid(image, synthetic.stain(0), width, height, levels=2)
    slide = synthetic.slide("one", spots, image, PITCH_PX, seed=0)
    axis = gene_axis([GeneNames(tuple(slide.gene_ids), tuple(slide.gene_symbols))])
    axis.table.write(folder / "genes.tsv")
    panel = np.arange(len(axis.table), dtype=np.int32)
    with open_image(slide.name, slide.image) as pixels:
        record = write_slide(
            folder, 0, slide, pixels, ImageQuality(1.0, 1.0), axis, panel, BuildSettings(), CropSettings(1.0, 3.0)
        )
    image.unlink()
    records = (record, *(link(folder, record, number) for number in range(1, slides)))
    Manifest(axis.table.digest(), len(axis.table), {}, records).write(folder)
