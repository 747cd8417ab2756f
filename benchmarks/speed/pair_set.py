"""A shard set of pairs for the speed benchmarks of training: H&E of a real section, pictures of 224 px."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.speed import synthetic_slides as synthetic
from data_prep.images import make_thumbnail, open_image
from data_prep.shards.settings import BuildSettings, CropSettings
from data_prep.shards.write import write_slide
from data_prep.slide.genes import GeneNames, make_gene_axis
from data_prep.slide.quality import ImageQuality
from stalign_pl.data.shards.shard_set import SlideShard
from stalign_pl.shard_format import Manifest

SECTION = Path("../shared/data/her2st/data/ST-imgs/C/C2")
"""Folder of a section's full-resolution JPEG (her2st C2, 0.69 um per px)."""

PITCH_PX = 100 / 0.75
TILE_PX = 2048


@dataclass(frozen=True)
class Texture:
    """uint8 [TILE_PX, TILE_PX, 3] of tissue, and where it is from."""

    tile: np.ndarray
    origin: str


def texture(section: Path = SECTION, side: int = TILE_PX) -> Texture:
    """The middle of a real section where one is at hand, else drawn."""
    import simplejpeg

    found = sorted(section.glob("*.jpg"))
    if not found:
        return Texture(synthetic.stain(0, side), "drawn (no real section at hand)")
    picture = simplejpeg.decode_jpeg(found[0].read_bytes())
    top, left = ((size - side) // 2 for size in picture.shape[:2])
    return Texture(picture[top : top + side, left : left + side], f"her2st {section.name}")


def build(
    out: Path, sizes: list[int], drawn: Texture, side: int = 224, genes_a_spot: int = synthetic.GENES_A_SPOT
) -> Manifest:
    """Write slides of the given numbers of spots; spot and niche pictures have `side` px, 224 at the most."""
    ids = synthetic.gene_ids()
    axis = make_gene_axis([GeneNames(tuple(ids), ("",) * len(ids))])
    axis.table.write(out / "genes.tsv")
    panel, image, records = np.arange(len(ids)), out / "image.jpeg", []
    pitch_px = PITCH_PX * min(1.0, side / 56)
    crops = CropSettings(spot_scale=side * 100 / pitch_px / 55, niche_pitches=3.0 if side == 224 else side / pitch_px)
    for number, spots in enumerate(sizes):
        shifted = np.roll(drawn.tile, (37 * number, 91 * number), (0, 1))
        synthetic.write_jpeg(image, synthetic.repeated(shifted, *synthetic.image_size(spots, pitch_px)))
        slide = synthetic.slide(f"slide_{number:03d}", spots, image, pitch_px, number, genes_a_spot=genes_a_spot)
        with open_image(slide.name, slide.image) as pixels:
            records.append(
                write_slide(
                    *(out, number, slide, pixels, make_thumbnail(pixels), ImageQuality(1.0, 1.0)),
                    *(axis, panel, BuildSettings(), crops),
                )
            )
    image.unlink()
    manifest = Manifest(axis.table.digest(), len(axis.table), {"synthetic": True}, tuple(records))
    manifest.write(out)
    return manifest


def picture_bytes(slides: Mapping[int, SlideShard]) -> dict[str, float]:
    """Mean bytes of a stored picture, by member."""
    return {
        member: float(np.mean(np.concatenate([slide.column(f"{member}_length") for slide in slides.values()])))
        for member in ("spot", "niche")
    }
