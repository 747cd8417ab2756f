"""Scale, grid and orientation: what is wrong is found and named, on real tissue where there is some."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data_prep.images import make_thumbnail, open_image
from data_prep.slide.curation import SetAside
from data_prep.slide.geometry import check_grid, check_orientation, check_scale
from data_prep.slide.quality import find_tissue, measure_share, measure_sharpness
from data_prep.slide.slide import Slide
from data_prep.sources import ReaderOptions, find_source


@pytest.fixture(scope="module")
def slide(tiny_cohort: Path) -> Slide:
    return find_source("space_ranger")(tiny_cohort, ReaderOptions()).jobs[0].read()


def test_claims_that_agree_pass_and_others_are_named_with_the_numbers(slide: Slide) -> None:
    check_scale(replace(slide, um_per_px_claims={"metadata": 2.1}, spot_px=32.5), 0.1)
    with pytest.raises(SetAside, match=r"metadata says 0.5 um per pixel, the lattice 2 .*-75%, more than 10% apart"):
        check_scale(replace(slide, um_per_px_claims={"metadata": 0.5}), 0.1)
    with pytest.raises(SetAside, match=r"diameter is stated as 325.0 px, 6.50 of the 50.0 px between neighbours"):
        check_scale(replace(slide, spot_px=325.0), 0.1)


def test_positions_off_their_grid_are_named(slide: Slide) -> None:
    check_grid(slide)
    check_grid(replace(slide, xy=slide.xy[:, ::-1]))  # a mirrored array is an array
    rng = np.random.default_rng(0)
    with pytest.raises(SetAside, match=r"stray .* pitches"):
        check_grid(replace(slide, xy=rng.permutation(slide.xy)))
    with pytest.raises(SetAside, match=r"a pitch is 50.0 px one way and 100.0 px the other"):
        check_grid(replace(slide, xy=slide.xy * [1, 2]))


def mask_of(slide: Slide) -> tuple[np.ndarray, float]:
    """The tissue on a slide's thumbnail, and its pixels per full-resolution pixel."""
    with open_image(slide.name, slide.image) as pixels:
        mask = find_tissue(make_thumbnail(pixels, 600))
        return mask, mask.shape[1] / pixels.width * slide.image.scale


READINGS: dict[str, Callable[[np.ndarray, float, float], np.ndarray]] = {
    "x and y swapped": lambda xy, w, h: xy[:, ::-1],
    "mirrored left to right": lambda xy, w, h: np.column_stack([w - xy[:, 0], xy[:, 1]]),
    "mirrored top to bottom": lambda xy, w, h: np.column_stack([xy[:, 0], h - xy[:, 1]]),
    "turned by 180 degrees": lambda xy, w, h: np.array([w, h]) - xy,
    "pixels of a hires image": lambda xy, w, h: xy * (2000 / max(w, h)),
}


@pytest.mark.real_data
def test_wrong_readings_of_real_sections_are_found(real_data: Path) -> None:
    """Every section as given passes; B4 and C2 (full resolution), read wrongly, are set aside with the right remedy."""
    jobs = {job.name: job for job in find_source("legacy_st")(real_data / "her2st", ReaderOptions()).jobs}
    for name in ("B4", "C2"):
        slide = jobs[name].read()
        mask, shrink = mask_of(slide)
        check_orientation(slide, mask, shrink)
        height, width = (side / shrink for side in mask.shape)
        for what, wrong in READINGS.items():
            with pytest.raises(SetAside, match=what):
                check_orientation(replace(slide, xy=wrong(slide.xy, width, height)), mask, shrink)


@pytest.mark.real_data
def test_real_thumbnails_have_their_spots_on_tissue(real_data: Path) -> None:
    sources = (
        ("space_ranger", "crc16"),
        ("anndata", "dlpfc_151507"),
        ("anndata", "dlpfc_151673"),
        ("legacy_st", "mob"),
    )
    for source, folder in sources:
        slide = find_source(source)(real_data / folder, ReaderOptions()).jobs[0].read()
        mask, per_px = mask_of(slide)
        assert measure_share(mask, slide.xy * per_px, slide.spot_um / slide.um_per_px / 2 * per_px).mean() > 0.94
        assert mask.mean() < 0.65
        check_scale(slide, 0.1)
        check_grid(slide)
        check_orientation(slide, mask, per_px)


def test_tissue_that_fills_the_image_says_nothing(slide: Slide) -> None:
    everywhere = np.ones((100, 100), bool)
    check_orientation(replace(slide, xy=slide.xy[:, ::-1]), everywhere, 100 / slide.xy.max())


def test_share_at_counts_what_lies_outside_as_none() -> None:
    mask = np.zeros((10, 10), bool)
    mask[:, :5] = True
    xy = np.array([[2.0, 5.0], [5.0, 5.0], [0.0, 0.0], [-50.0, 5.0], [9.0, 9.0]])
    assert measure_share(mask, xy, 2.0).tolist() == [1.0, 0.5, 0.25, 0.0, 0.0]


def test_blur_lowers_sharpness() -> None:
    rng = np.random.default_rng(0)
    sharp = rng.integers(0, 255, (64, 64, 3)).astype(np.uint8)
    soft = sharp.reshape(16, 4, 16, 4, 3).mean(axis=(1, 3)).repeat(4, 0).repeat(4, 1).astype(np.uint8)
    assert (
        measure_sharpness([sharp])
        > 10
        > measure_sharpness([soft])
        > measure_sharpness([np.full((64, 64, 3), 9, np.uint8)])
        == 0
    )
