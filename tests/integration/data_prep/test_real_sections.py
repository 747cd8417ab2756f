"""Real sections: what is known of them must come out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from data_prep.build.build import build
from data_prep.build.config import BuildConfig, SourceEntry
from data_prep.check.check import check_set
from data_prep.images import open_image
from data_prep.slide.slide import Slide
from data_prep.sources import ReaderOptions, find_source
from data_prep.sources.sheet import SlideFacts
from stalign_pl.shard_format import GeneTable

pytestmark = pytest.mark.real_data


def read(source: str, folder: Path, name: str) -> Slide:
    (job,) = (job for job in find_source(source)(folder, ReaderOptions()).jobs if job.name == name)
    return job.read()


def pixels_of(slide: Slide) -> np.ndarray:
    with open_image(slide.name, slide.image) as pixels:
        return pixels.region(0, 0, pixels.width, pixels.height)


def brightness_under_spots(slide: Slide, swap: bool = False) -> float:
    """Mean grey value at the spot centres; tissue is darker than the glass around it."""
    image = pixels_of(slide)
    x, y = (slide.xy * slide.image.scale).T.astype(int)
    if swap:
        x, y = y, x
    inside = (x >= 0) & (y >= 0) & (y < image.shape[0]) & (x < image.shape[1])
    return float(image[y[inside], x[inside]].mean())


@pytest.mark.parametrize(
    ("source", "folder", "name", "spots", "genes", "um_per_px", "kind"),
    [
        ("space_ranger", "crc16", "crc16", 3106, 36601, 1.29, "lowres"),
        ("anndata", "dlpfc_151673", "151673", 3611, 580, 0.725, "lowres"),
        ("anndata", "dlpfc_151507", "151507", 4226, 100, 0.725, "lowres"),
        ("legacy_st", "her2st", "C2", 187, 15706, 0.695, "fullres"),
        ("legacy_st", "mob", "MOB1", 379, 1000, 4.36, "fullres"),
    ],
)
def test_sections_are_what_is_known_of_them(
    real_data: Path, source: str, folder: str, name: str, spots: int, genes: int, um_per_px: float, kind: str
) -> None:
    slide = read(source, real_data / folder, name)
    assert (slide.counts.shape, slide.image.kind) == ((spots, genes), kind)
    assert slide.um_per_px == pytest.approx(um_per_px, rel=0.01)  # of MOB: 6.2 x 6.6 mm of array in 1426 x 1515 px
    image = pixels_of(slide)
    assert brightness_under_spots(slide) < np.median(image) - 5
    assert brightness_under_spots(slide) < brightness_under_spots(slide, swap=True)


def test_labels_of_the_layers(real_data: Path) -> None:
    first = read("anndata", real_data / "dlpfc_151507", "151507").labels["layer"]
    assert set(first) == {"", "L1", "L2", "L3", "L4", "L5", "L6", "WM"}
    assert (first == "").sum() == 5


@pytest.mark.parametrize("section", ["A1", "B1", "C1", "D1", "E1", "F1"])
def test_regions_of_her2st_meet_their_spots(real_data: Path, section: str) -> None:
    from data_prep.sources.legacy_st.slide import LegacySection

    data = real_data / "her2st" / "data"
    job = LegacySection(
        section,
        section[0],
        data / "ST-cnts" / f"{section}.tsv.gz",
        data / "ST-spotfiles" / f"{section}_selection.tsv",
        Path("no-image"),
        data / "ST-pat" / "lbl" / f"{section}_labeled_coordinates.tsv",
    )
    slide = job.read()
    labels = slide.labels["label"]
    assert (labels != "").mean() > 0.5
    assert "undetermined" not in labels
    assert "invasive cancer" in labels
    if section == "A1":
        assert len(slide) == 346


def test_sections_without_image_are_left_out(real_data: Path) -> None:
    discovery = find_source("legacy_st")(real_data / "her2st", ReaderOptions())
    assert [job.name for job in discovery.jobs] == ["B4", "C2", "C3", "C4", "C5"]
    assert len(discovery.left_out) == 24


def test_symbols_meet_ids_across_sources(real_data: Path, tmp_path: Path) -> None:
    sources = (
        SourceEntry("legacy_st", real_data / "her2st", slides=("C2",)),
        SourceEntry("anndata", real_data / "dlpfc_151507", facts=SlideFacts(patient="donor1")),
        SourceEntry("space_ranger", real_data / "crc16", patients={"crc16": "crc16"}),
    )
    report = build(BuildConfig(sources), tmp_path / "set")
    assert report.failed == {}
    assert list(check_set(tmp_path / "set", deep=True)) == []
    table = GeneTable.read(tmp_path / "set" / "genes.tsv")
    assert table.lookup("MALAT1") == table.lookup("ENSG00000251562.1")
    panels = [np.load(tmp_path / "set" / slide.panel) for slide in report.manifest.slides]
    shared = np.intersect1d(panels[0], panels[2])
    assert len(shared) > 14_000  # of her2st's 15,000 symbols, nearly all are genes of crc16
    assert np.isin(panels[1], panels[2]).mean() > 0.95
