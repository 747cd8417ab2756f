"""Which slides and spots stay: the rules one by one, and their names and numbers in what is said."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_prep.build.build import build
from data_prep.build.config import BuildConfig, SourceEntry
from data_prep.cli.main import main
from data_prep.slide.catalogue import CatalogueRow
from data_prep.slide.curation import Curation, SetAside, judge_row, judge_slide, keep_measured_spots, keep_spots
from data_prep.slide.slide import Slide
from data_prep.sources import find_source
from data_prep.sources.job import ReaderOptions
from stalign_pl.errors import ConfigError
from tests.support.tiny_cohort import write_cohort


@pytest.fixture(scope="module")
def slide(tiny_cohort: Path) -> Slide:
    jobs = find_source("space_ranger")(tiny_cohort, ReaderOptions()).jobs
    return replace(jobs[0].read(), species="human", patient="P1")


@pytest.mark.parametrize(
    ("row", "rule", "reason"),
    [
        ({"species": "Mus musculus"}, "species", "species is 'mouse'; wanted: human"),
        ({"species": "human & mouse"}, "species", "species is 'human & mouse'; wanted: human"),
        ({"technology": "VisiumHD"}, "technology", "technology is 'Visium HD'; wanted: Visium"),
        ({"spots": 49}, "min_spots", "has 49 spots by the catalogue; at least 50 are wanted"),
        ({"um_per_px": 3.2}, "max_um_per_px", "its image has 3.20 um per pixel; at most 1.2 are wanted"),
        ({"name": "odd"}, "exclude", "folded"),
        ({"species": "Homo sapiens", "technology": "Visium", "spots": 50, "um_per_px": 1.2}, None, None),
        ({}, None, None),  # what nobody states is judged by the slide itself
    ],
)
def test_a_row_is_judged_by_what_it_states(row: dict, rule: str | None, reason: str | None) -> None:
    rules = Curation(
        species=("human",), technology=("Visium",), min_spots=50, max_um_per_px=1.2, exclude={"odd": "folded"}
    )
    verdict = judge_row(CatalogueRow(**{"name": "s", **row}), rules)
    assert verdict == (None if rule is None else (rule, reason))


@pytest.mark.parametrize(
    ("change", "rules", "rule", "message"),
    [
        ({"species": ""}, {"species": ("human",)}, "species", "species is not known"),
        ({}, {"technology": ("ST",)}, "technology", "technology is 'Visium'; wanted: ST"),
        ({}, {"min_spots": 65}, "min_spots", "64 spots are left; at least 65"),
        ({}, {"max_um_per_px": 1.0}, "max_um_per_px", "2.00 um per pixel; at most 1 are"),
    ],
)
def test_a_slide_is_judged_by_itself(slide: Slide, change: dict, rules: dict, rule: str, message: str) -> None:
    with pytest.raises(SetAside, match=message) as raised:
        judge_slide(replace(slide, **change), Curation(**rules))
    assert raised.value.rule == rule


def test_spots_that_go_take_all_that_is_theirs_along(slide: Slide) -> None:
    total = np.asarray(slide.counts.sum(axis=1)).ravel()
    limit = int(np.median(total))
    left = keep_measured_spots(slide, Curation(min_spot_counts=limit))
    assert 0 < len(left) < len(slide)
    assert np.asarray(left.counts.sum(axis=1)).min() >= limit
    assert left.barcodes.tolist() == slide.barcodes[total >= limit].tolist()
    assert len(left.grid) == len(left.xy) == len(left)
    assert left.notes[-1] == f"{(total < limit).sum()} of 64 spots left out: fewer than {limit} counts"
    assert keep_spots(slide, np.ones(64, bool), "nothing") is slide


@pytest.mark.parametrize(
    "wrong", [{"min_spots": -1}, {"min_spot_tissue": 2}, {"duplicates": "some"}, {"scale_tolerance": 0}]
)
def test_rules_that_are_none_are_refused(wrong: dict) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Curation(**wrong)


def test_a_build_lists_what_it_left_out_and_ends_well(
    tiny_cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.yaml").write_text(
        f"curation: {{exclude: {{tiny_1: torn}}, min_spot_counts: 1}}\n"
        f"sources: [{{source: space_ranger, input: {tiny_cohort}}}]\n"
    )
    assert main(["build", "--config", str(tmp_path / "c.yaml"), "--out", str(tmp_path / "set"), "--workers", "1"]) == 0
    assert "left out: tiny_1: torn [exclude]" in capsys.readouterr().out
    assert json.loads((tmp_path / "set/exclusions.json").read_text()) == [
        {"slide": "tiny_1", "stage": "plan", "rule": "exclude", "reason": "torn"}
    ]
    assert json.loads((tmp_path / "set/state/tiny_2.json").read_text())["status"] == "done"


def test_spots_on_glass_can_be_left_out(tmp_path: Path) -> None:
    """The lower half of the slide is glass: its spots go, and the slide's record says how many."""
    cohort = write_cohort(tmp_path / "in", {"tiny_1": "P1"})
    path = cohort / "tiny_1/full_image.png"
    pixels = np.asarray(Image.open(path)).copy()
    pixels[pixels.shape[0] // 2 :] = [242, 240, 243]
    Image.fromarray(pixels).save(path)
    config = BuildConfig((SourceEntry("space_ranger", cohort),), curation=Curation(min_spot_tissue=0.5))
    (record,) = build(config, tmp_path / "set").manifest.slides
    assert 28 <= record.spots <= 36
    assert record.on_tissue > 0.9
    assert record.notes == (f"{64 - record.spots} of 64 spots left out: less than 0.5 of the spot is tissue",)


def test_a_blurred_slide_is_set_aside_and_is_not_read_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cohort = write_cohort(tmp_path / "in", {"tiny_1": "P1", "tiny_2": "P2"})
    path = cohort / "tiny_1/full_image.png"
    image = Image.open(path)
    image.resize((image.width // 8, image.height // 8)).resize(image.size, Image.Resampling.BICUBIC).save(path)
    config = BuildConfig((SourceEntry("space_ranger", cohort),), curation=Curation(min_sharpness=0.05))
    report = build(config, tmp_path / "set")
    assert [slide.name for slide in report.manifest.slides] == ["tiny_2"]
    (exclusion,) = report.exclusions
    assert (exclusion.slide, exclusion.stage, exclusion.rule) == ("tiny_1", "build", "min_sharpness")
    assert build(config, tmp_path / "set").reused == ("tiny_1", "tiny_2")


def test_plan_prints_and_writes_the_table(
    tiny_cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.yaml").write_text(
        f"curation: {{species: [mouse]}}\nsources: [{{source: space_ranger, input: {tiny_cohort}}}]\n"
    )
    assert main(["plan", "--config", str(tmp_path / "c.yaml"), "--out", str(tmp_path / "slides.csv")]) == 1
    assert "3 species is 'human'; wanted: mouse: tiny_1, tiny_2, tiny_3" in capsys.readouterr().out
    first = (tmp_path / "slides.csv").read_text().splitlines()[1]
    assert first.startswith("tiny_1,no,species,species is 'human'; wanted: mouse,space_ranger,sheet,human,test,")


def test_a_slide_to_exclude_that_nobody_knows_is_refused(tiny_cohort: Path, tmp_path: Path) -> None:
    config = BuildConfig((SourceEntry("space_ranger", tiny_cohort),), curation=Curation(exclude={"tiny_9": "torn"}))
    with pytest.raises(ConfigError, match="exclude names 'tiny_9', which no source has: tiny_1, tiny_2, tiny_3"):
        build(config, tmp_path / "set")


def test_a_folder_with_a_matrix_and_no_spatial_is_named(tmp_path: Path) -> None:
    cohort = write_cohort(tmp_path / "in", {"tiny_1": "P1", "tiny_2": "P2"})
    (cohort / "tiny_2/spatial").rename(cohort / "tiny_2/Spatial")
    report = build(BuildConfig((SourceEntry("space_ranger", cohort),)), tmp_path / "set")
    assert [record.name for record in report.manifest.slides] == ["tiny_1"]
    assert "has a count matrix and no folder spatial/" in report.left_out["tiny_2"]
