"""The same tars whatever the image's file: cut as the tar asks for them, or tile after tile through the spool."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_prep.build.build import build
from data_prep.build.config import BuildConfig, SourceEntry
from data_prep.images import Pixels, open_image
from data_prep.images import blocks as blocks_module
from data_prep.shards.crops import cut_crop
from data_prep.shards.niches import NeighborRule, find_neighbors
from data_prep.shards.samples import SlideSamples, gather_samples
from data_prep.shards.settings import CropSettings
from data_prep.shards.spool import order_by_band, spool_pictures
from data_prep.shards.tars import draw_order, write_tars
from data_prep.slide.genes import GeneNames, make_gene_axis, spread_counts
from data_prep.slide.slide import SlideError, SlideImage
from data_prep.sources import ReaderOptions, find_source
from stalign_pl.shard_format import Manifest


def samples_on(cohort: Path, pixels: Pixels) -> SlideSamples:
    """tiny_1 over the given image."""
    slide = find_source("space_ranger")(cohort, ReaderOptions()).jobs[0].read()
    axis = make_gene_axis([GeneNames(tuple(slide.gene_ids), tuple(slide.gene_symbols))])
    columns = axis.columns(GeneNames(tuple(slide.gene_ids), tuple(slide.gene_symbols)))
    measured = np.unique(columns)
    counts = spread_counts(measured, columns, slide.counts)
    return gather_samples(
        slide, pixels, counts, measured, find_neighbors(slide, NeighborRule()), CropSettings(1.0, 3.0)
    )


@pytest.fixture(scope="module")
def tiled(tiny_cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tiny_1's image in lossless tiles of 32 px."""
    import tifffile

    path = tmp_path_factory.mktemp("tiled") / "image.tif"
    image = np.asarray(Image.open(tiny_cohort / "tiny_1" / "full_image.png"))
    tifffile.imwrite(path, image, tile=(32, 32), compression="zlib", photometric="rgb")
    return path


def test_tars_through_the_spool_are_those_without(tiny_cohort: Path, tiled: Path, tmp_path: Path) -> None:
    files, order = {}, draw_order(64, 0, "tiny_1")
    ways = {
        "png": (tiny_cohort / "tiny_1" / "full_image.png", 1 << 20),
        "kept": (tiled, 64 << 20),
        "spool": (tiled, 60 * 32 * 32 * 3),
    }
    for way, (path, cache_bytes) in ways.items():
        (tmp_path / way).mkdir()
        with open_image("tiny_1", SlideImage(path, "fullres"), cache_bytes) as pixels:
            assert (pixels.band_px is not None) == (way == "spool")
            names, index = write_tars(tmp_path / way, "s", 3, samples_on(tiny_cohort, pixels), order, part_spots=30)
        assert sorted(path.name for path in (tmp_path / way).iterdir()) == sorted(names)  # nothing left behind
        files[way] = [(tmp_path / way / name).read_bytes() for name in names], index.tolist()
    assert files["png"] == files["kept"] == files["spool"]


def test_no_tile_is_decoded_again_and_again(
    tiny_cohort: Path, tiled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Niche crops of 150 px over 225 tiles of 32 px, of which the cache holds 100."""
    monkeypatch.setattr(blocks_module, "CROP_PX", 150)
    reads = {}
    for way in ("random", "spool"):
        with open_image("tiny_1", SlideImage(tiled, "fullres"), 100 * 32 * 32 * 3) as pixels:
            blocks, counted = pixels._blocks[0], []
            plain = blocks.read
            blocks.read = lambda row, column: counted.append((row, column)) or plain(row, column)  # noqa: B023
            samples = samples_on(tiny_cohort, pixels)
            if way == "random":
                for spot in draw_order(64, 0, "tiny_1"):
                    cut_crop(pixels, samples.xy_image[spot], samples.niche, np.zeros(3, np.uint8))
            else:
                with spool_pictures(samples, tmp_path) as pictures_of:
                    pictures_of(5)
            reads[way] = len(counted) / len(set(counted))
    assert reads["random"] > 2 * reads["spool"]
    assert reads["spool"] < 2  # the border's colour reads the outermost tiles once more


def test_spots_are_read_in_bands_from_left_to_right() -> None:
    xy = np.array([[50.0, 10], [10, 120], [40, 99], [5, 199], [7, -3]])
    assert order_by_band(xy, 100).tolist() == [4, 2, 0, 3, 1]


def test_a_damaged_tile_ends_the_slide_and_leaves_nothing(tiny_cohort: Path, tmp_path: Path) -> None:
    import tifffile

    cohort = tmp_path / "in"
    for name in ("tiny_1", "tiny_2"):
        shutil.copytree(tiny_cohort / name, cohort / name)
    path = cohort / "tiny_1" / "full_image.png"  # a TIFF, whatever its name says
    tifffile.imwrite(path, np.asarray(Image.open(path)), tile=(64, 64), compression="jpeg", photometric="rgb")
    with tifffile.TiffFile(path) as file:
        offset, count = file.pages[0].dataoffsets[20], file.pages[0].databytecounts[20]
    data = bytearray(path.read_bytes())
    data[offset + count // 2 : offset + count] = bytes(count - count // 2)
    path.write_bytes(data)
    config = BuildConfig((SourceEntry("space_ranger", cohort),), slide_as_patient=True)
    report = build(config, tmp_path / "set")
    assert list(report.failed) == ["tiny_1"]
    assert "full_image.png level 0" in report.failed["tiny_1"]
    assert "tile (column " in report.failed["tiny_1"]
    assert [slide.name for slide in Manifest.read(tmp_path / "set").slides] == ["tiny_2"]
    assert not [path for path in (tmp_path / "set").iterdir() if path.name.startswith((".", "tiny_1.tar"))]


def test_errors_of_the_image_reach_the_spools_caller(tiny_cohort: Path, tiled: Path, tmp_path: Path) -> None:
    with open_image("tiny_1", SlideImage(tiled, "fullres"), 60 * 32 * 32 * 3) as pixels:
        samples = samples_on(tiny_cohort, pixels)

        def damaged(row: int, column: int) -> np.ndarray:
            raise SlideError("tiny_1", f"tile (column {column}, row {row}) is damaged")

        pixels._blocks[0].read = damaged
        with pytest.raises(SlideError, match="is damaged"), spool_pictures(samples, tmp_path):
            pass
    assert list(tmp_path.iterdir()) == []
