"""Slides that cannot be used: each is named with its reason, and the others are built."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy import sparse

from data_prep.build.build import _run_jobs, build
from data_prep.build.config import BuildConfig, SourceEntry
from data_prep.build.plan import make_plan
from data_prep.slide.slide import Slide, SlideError
from data_prep.slide.validation import check_whole_counts, validate
from data_prep.sources import ReaderOptions, find_source
from stalign_pl.errors import ConfigError, ShardError


def edit_matrix(folder: Path, change: Callable[[h5py.Group], None]) -> None:
    with h5py.File(folder / "filtered_feature_bc_matrix.h5", "r+") as file:
        change(file["matrix"])


def with_first_count(value: float) -> Callable[[Path], None]:
    def change(matrix: h5py.Group) -> None:
        data = matrix["data"][()].astype(np.float64)
        data[5] = value
        del matrix["data"]
        matrix["data"] = data

    return lambda folder: edit_matrix(folder, change)


def with_index(value: int) -> Callable[[Path], None]:
    def change(matrix: h5py.Group) -> None:
        matrix["indices"][5] = value

    return lambda folder: edit_matrix(folder, change)


def without_last_bounds(folder: Path) -> None:
    def change(matrix: h5py.Group) -> None:
        bounds = matrix["indptr"][()][:-3]
        del matrix["indptr"]
        matrix["indptr"] = bounds

    edit_matrix(folder, change)


@dataclass(frozen=True)
class DyingSlide:
    """A slide whose reading ends the process, as a fault in a C library does."""

    name: str

    def read(self) -> Slide:
        os._exit(11)


def repeat_barcode(folder: Path) -> None:
    def change(matrix: h5py.Group) -> None:
        matrix["barcodes"][1] = matrix["barcodes"][0]

    edit_matrix(folder, change)


def cut(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:2000])


def edit_positions(change: Callable[[list[str]], list[str]]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        path = folder / "spatial" / "tissue_positions.csv"
        path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")

    return edit


def moved(lines: list[str]) -> list[str]:
    rows = [line.split(",") for line in lines[1:]]
    return [lines[0], *(",".join([*row[:4], *(str(float(value) + 900) for value in row[4:])]) for row in rows)]


BAD: dict[str, tuple[Callable[[Path], None], str]] = {
    "nan_count": (with_first_count(np.nan), r"1 values are not counts; the first is nan at spot row 0"),
    "negative_count": (with_first_count(-1), r"the first is -1\.0"),
    "fractional_count": (with_first_count(0.5), r"the first is 0\.5"),
    "index_beyond": (with_index(10**6), r"indices run from 0 to 1000000; there are 40 genes"),
    "cut_bounds": (without_last_bounds, "indptr, indices and data do not fit 64 spots"),
    "repeated_barcode": (repeat_barcode, "1 barcodes occur more than once, such as '1000ACGT-1'"),
    "position_not_finite": (
        edit_positions(lambda lines: [lines[0], re.sub(r"[^,]+$", "nan", lines[1]), *lines[2:]]),
        "1 positions are not finite, such as that of '1000ACGT-1'",
    ),
    "position_no_number": (edit_positions(lambda lines: [*lines, "X-1,1,0,0,here,3"]), "tissue_positions.csv: .*here"),
    "wrong_place": (edit_positions(moved), r"of 64 spots lie outside .*full_image\.png"),
    "nothing_in_common": (
        edit_positions(lambda lines: [lines[0], *("Z" + line for line in lines[1:])]),
        "no barcode of filtered_feature_bc_matrix.h5 is among",
    ),
    "single_spot": (edit_positions(lambda lines: lines[:2]), "has a single spot"),
    "half_a_grid": (
        edit_positions(lambda lines: [lines[0], lines[1].replace(",1,0,0,", ",1,0,1,"), *lines[2:]]),
        "even for some spots and odd for others",
    ),
    "cut_image": (cut("full_image.png"), r"full_image\.png cannot be read as an image"),
    "cut_matrix": (cut("filtered_feature_bc_matrix.h5"), r"filtered_feature_bc_matrix\.h5 cannot be read"),
    "no_matrix": (lambda folder: (folder / "filtered_feature_bc_matrix.h5").unlink(), "is missing"),
    "no_scale": (
        lambda folder: ((folder / "full_image.png").unlink(), (folder / "spatial/scalefactors_json.json").unlink()),
        "scalefactors_json.json is missing",
    ),
    "positions_no_text": (
        lambda folder: (folder / "spatial/tissue_positions.csv").write_bytes(bytes(range(256))),
        "tissue_positions.csv cannot be read",
    ),
    "factors_no_json": (
        lambda folder: (
            (folder / "full_image.png").unlink(),
            (folder / "spatial/scalefactors_json.json").write_text("[1"),
        ),
        "scalefactors_json.json is not JSON",
    ),
    "two_images": (
        lambda folder: shutil.copy(folder / "full_image.png", folder / "other_image.png"),
        "several full-resolution images, keep one",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_slide_is_named_and_the_others_go_on(tiny_cohort: Path, tmp_path: Path, kind: str) -> None:
    spoil, message = BAD[kind]
    cohort = tmp_path / "cohort"
    for name in ("tiny_1", "tiny_2"):
        shutil.copytree(tiny_cohort / name, cohort / name)
    spoil(cohort / "tiny_1")
    report = build(BuildConfig((SourceEntry("space_ranger", cohort),), slide_as_patient=True), tmp_path / "set")
    assert list(report.failed) == ["tiny_1"]
    assert re.search(message, report.failed["tiny_1"]), report.failed["tiny_1"]
    assert [(slide.name, slide.number) for slide in report.manifest.slides] == [("tiny_2", 1)]
    assert not list((tmp_path / "set").glob("*.tmp")) + list((tmp_path / "set").glob(".*.tmp"))


def test_a_slide_without_patient_is_told_the_three_ways(tiny_cohort: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_cohort / "tiny_1", tmp_path / "in" / "tiny_1")
    entry = SourceEntry("space_ranger", tmp_path / "in")
    reason = build(BuildConfig((entry,)), tmp_path / "set").failed["tiny_1"]
    assert all(way in reason for way in ("slides.csv", "`patients:`", "--slide-as-patient"))
    named = replace(entry, patients={"tiny_1": "Q"})
    assert build(BuildConfig((named,)), tmp_path / "other").manifest.slides[0].patient == "Q"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"\xff\xfe\x00", "cannot be read"),
        (b"spot,domain\na,b\n", "wanted a column 'barcode' and label columns"),
        (b"barcode,domain\n1000ACGT-1,a\n1000ACGT-1,b\n", "'1000ACGT-1' has more than one row"),
    ],
)
def test_a_bad_label_file_is_named(tiny_cohort: Path, tmp_path: Path, text: bytes, message: str) -> None:
    shutil.copytree(tiny_cohort / "tiny_1", tmp_path / "in" / "tiny_1")
    (tmp_path / "in" / "slides.csv").write_text("slide,patient,labels\ntiny_1,P,tiny_1/labels.csv\n")
    (tmp_path / "in" / "tiny_1" / "labels.csv").write_bytes(text)
    reason = build(BuildConfig((SourceEntry("space_ranger", tmp_path / "in"),)), tmp_path / "set").failed["tiny_1"]
    assert "labels.csv" in reason
    assert message in reason


def test_a_bad_slide_in_a_worker_process_is_named_too(tiny_cohort: Path, tmp_path: Path) -> None:
    for name in ("tiny_1", "tiny_2", "tiny_3"):
        shutil.copytree(tiny_cohort / name, tmp_path / "in" / name)
    cut("full_image.png")(tmp_path / "in" / "tiny_2")
    config = BuildConfig((SourceEntry("space_ranger", tmp_path / "in"),), slide_as_patient=True)
    report = build(config, tmp_path / "set", workers=2)
    assert list(report.failed) == ["tiny_2"]
    assert [slide.number for slide in report.manifest.slides] == [0, 2]


def test_a_slide_that_ends_its_process_is_named_and_the_others_are_built(tiny_cohort: Path, tmp_path: Path) -> None:
    config = BuildConfig((SourceEntry("space_ranger", tiny_cohort),))
    plan = make_plan(config)
    slides = [replace(slide, job=DyingSlide("tiny_2")) if slide.number == 1 else slide for slide in plan.slides]
    plan = replace(plan, slides=tuple(slides))
    (tmp_path / "set").mkdir()
    found = {state.slide: state for state in _run_jobs(slides, plan, tmp_path / "set", workers=2)}
    assert sorted(found) == ["tiny_1", "tiny_2", "tiny_3"]
    assert "process that built it died" in found.pop("tiny_2").reason
    assert [state.status for state in found.values()] == ["done", "done"]


def test_names_that_clash_or_do_not_exist_are_refused(tiny_cohort: Path, tmp_path: Path) -> None:
    entry = SourceEntry("space_ranger", tiny_cohort)
    with pytest.raises(ConfigError, match="twice, so slide 'tiny_1' would be built twice"):
        build(BuildConfig((entry, entry)), tmp_path / "set")
    with pytest.raises(ConfigError, match="no slide 'tiny_9'"):
        build(BuildConfig((replace(entry, slides=("tiny_9",)),)), tmp_path / "set")
    with pytest.raises(ConfigError, match="patients: there is no slide 'tiny_9'"):
        build(BuildConfig((replace(entry, patients={"tiny_9": "P"}),)), tmp_path / "set")
    with pytest.raises(ConfigError, match="no source has a slide 'tiny_9'"):
        build(BuildConfig((entry,), only=("tiny_9",)), tmp_path / "set")
    shutil.copytree(tiny_cohort / "tiny_1", tmp_path / "in" / "manifest")
    with pytest.raises(ConfigError, match="cannot be named 'manifest'"):
        build(BuildConfig((SourceEntry("space_ranger", tmp_path / "in"),)), tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_a_set_of_another_plan_is_not_touched(tiny_cohort: Path, tmp_path: Path) -> None:
    config = BuildConfig((SourceEntry("space_ranger", tiny_cohort, slides=("tiny_1",)),))
    build(config, tmp_path / "set")
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "set").iterdir()}
    with pytest.raises(ShardError, match="its setting seed is 0, now 1"):
        build(replace(config, settings=replace(config.settings, seed=1)), tmp_path / "set")
    with pytest.raises(ShardError, match=r"it has 1 slides, now 3; .*only now: \['tiny_2', 'tiny_3'\]"):
        build(BuildConfig((SourceEntry("space_ranger", tiny_cohort),)), tmp_path / "set")
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "set").iterdir()} == before


def slide_of(cohort: Path) -> Slide:
    return replace(find_source("space_ranger")(cohort, ReaderOptions()).jobs[0].read(), patient="p")


def test_validate_refuses_what_readers_might_hand_over(tiny_cohort: Path) -> None:
    slide = slide_of(tiny_cohort)
    validate(slide)
    empty = sparse.csr_matrix(slide.counts.shape, dtype=np.int32)
    for wrong, message in (
        ({"counts": empty}, "is empty"),
        ({"counts": slide.counts[:-1]}, "axes disagree"),
        ({"gene_ids": slide.gene_ids[:-1]}, "axes disagree"),
        ({"grid": np.zeros_like(slide.grid)}, "two spots stand at column 0, row 0"),
        ({"labels": {"domain": np.array(["a"], object)}}, "'domain' has 1 values for 64 spots"),
        ({"xy": np.zeros_like(slide.xy), "grid": None, "lattice": "none"}, "lie on one another"),
    ):
        with pytest.raises(SlideError, match=message):
            validate(replace(slide, **wrong))


def test_counts_too_large_for_exact_sums_are_refused() -> None:
    assert check_whole_counts("s", np.array([[2**24 - 1, 0]]), "x").dtype == np.int32
    with pytest.raises(SlideError, match="row 1, gene column 0"):
        check_whole_counts("s", np.array([[1, 0], [2**24, 0]]), "x")
