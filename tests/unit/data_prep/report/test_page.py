"""The report: one page that opens offline, says what the set holds, and shows where the spots lie."""

from __future__ import annotations

import io
import json
import re
import shutil
import tomllib
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest
from PIL import Image

from data_prep.build.build import build
from data_prep.build.config import BuildConfig, SourceEntry
from data_prep.build.state import SlideState
from data_prep.cli.main import main
from data_prep.console import format_bytes
from data_prep.report.build_log import group_exclusions
from data_prep.report.histograms import WIDTH, make_histogram
from data_prep.report.page import make_report, render
from data_prep.report.thumbnail import SMALL, Overlay, ThumbnailSize, _encode_within, choose_bar_length, draw
from data_prep.slide.curation import Exclusion
from stalign_pl.shard_format.split import Fold, Part, Split
from tests.support.paths import REPOSITORY
from tests.support.tiny_cohort import write_cohort

VOID = {"meta", "img", "input", "line", "br"}


class Page(HTMLParser):
    """Checks that tags are balanced; collects text and attributes."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.text: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    @property
    def words(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.text))


@pytest.fixture
def shards(tiny_shards: Path, tmp_path: Path) -> Path:
    """A copy of the tiny set that a test may change."""
    return Path(shutil.copytree(tiny_shards, tmp_path / "set"))


def change(shards: Path, name: str, edit: Callable[[dict[str, Any]], None]) -> None:
    """Edit the record of a slide in the manifest."""
    path = shards / "manifest.json"
    value = json.loads(path.read_text())
    edit(next(slide for slide in value["slides"] if slide["name"] == name))
    path.write_text(json.dumps(value))


def words(shards: Path, *splits: Path) -> str:
    return Page(render(make_report(shards, splits))).words


def test_the_page_needs_nothing_else_and_is_the_same_each_time(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(shards)]) == 0
    assert "3 slides, 192 spots, 0 excluded slides, 0 splits" in capsys.readouterr().out
    first = (shards / "report.html").read_bytes()
    other = shutil.copytree(shards, tmp_path / "elsewhere" / "set")
    (other / "report.html").unlink()
    assert main(["report", str(other), "--out", str(tmp_path / "pages" / "page.html")]) == 0
    assert (tmp_path / "pages" / "page.html").read_bytes() == first
    page = Page(first.decode())
    links = [value for tag, name, value in page.attributes if name in ("src", "href", "srcset", "action", "data")]
    assert len([link for link in links if link.startswith("data:image/jpeg;base64,")]) == 3
    assert all(link.startswith(("#", "data:image/jpeg;base64,")) for link in links)
    assert not re.search(r"url\(|@import|https?:", first.decode())
    assert not [path for path in shards.iterdir() if path.name.endswith(".tmp")]


def test_the_figures_are_those_of_the_files(shards: Path) -> None:
    report = make_report(shards)
    assert all(row.state.status == "done" and row.bytes == row.state.bytes for row in report.rows)
    for row in report.rows:
        table = anndata.read_h5ad(shards / row.record.h5ad)
        np.testing.assert_array_equal(row.spot_counts, np.asarray(table.X.sum(axis=1)).ravel())
        np.testing.assert_array_equal(row.spot_genes, np.diff(table.X.indptr))
    assert report.shard_set.bytes == sum(
        path.stat().st_size
        for path in shards.iterdir()
        if path.is_file() and not re.fullmatch(r"tiny_\d\.json|exclusions\.json", path.name)
    )
    text = words(shards)
    for wanted in (
        "tiny_1", "P2", "CC0", "domain (3)", "40 (40 with an Ensembl id)", "every slide 3 40 100.0 %", "192 spots"
    ):  # fmt: skip
        assert wanted in text, wanted


def test_names_are_text_whatever_they_hold(tmp_path: Path) -> None:
    name = """<script>alert("1")<-script> & 'é'"""
    cohort = write_cohort(tmp_path / "in", {name: "P<b>1"})
    (cohort / "slides.csv").unlink()
    report = build(BuildConfig((SourceEntry("space_ranger", cohort, patients={name: "P<b>1"}),)), tmp_path / "set")
    assert report.failed == {}
    html = render(make_report(tmp_path / "set"))
    assert name not in html
    assert name in Page(html).words
    assert "P<b>1" in Page(html).words


def test_a_set_that_is_still_being_built(shards: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (shards / "manifest.json").unlink()
    (shards / "tiny_2.json").unlink()
    (shards / "exclusions.json").write_text("[]")
    assert main(["report", str(shards)]) == 0
    assert "2 of 3 planned slides are there" in capsys.readouterr().out
    assert "no manifest" in words(shards)


def test_exclusions_and_states(shards: Path) -> None:
    listed = [
        {"slide": "x1", "stage": "plan", "rule": "min_spots", "reason": "has 12 spots, 50 are wanted"},
        {"slide": "x2", "stage": "plan", "rule": "min_spots", "reason": "has 3 spots, 50 are wanted"},
        {"slide": "x3", "stage": "duplicate", "rule": "counts", "reason": "is tiny_1 under another name"},
    ]
    (shards / "exclusions.json").write_text(json.dumps(listed))
    states = [
        {"slide": "tiny_1", "number": 0, "status": "done", "seconds": 12.34, "bytes": 987_654, "spots": 64},
        {"slide": "x4", "number": 7, "status": "failed", "rule": "image", "reason": "no <image>", "seconds": None},
    ]
    for name, state in zip(("tiny_1", "x4"), states, strict=True):
        (shards / "state" / f"{name}.json").write_text(json.dumps(state))
    report = make_report(shards)
    assert [(group.stage, group.rule, len(group.exclusions)) for group in report.excluded] == [
        ("plan", "min_spots", 2),
        ("build", "image", 1),
        ("duplicate", "counts", 1),
    ]
    text = Page(render(report)).words
    for wanted in ("has 12 spots, 50 are wanted", "no <image>", "12.3 988 kB", "Excluded slides 4"):
        assert wanted in text, wanted


def test_a_slide_that_is_there_after_all_is_not_excluded() -> None:
    states = [SlideState("a", 0, "failed", reason="disk full"), SlideState("b", 1, "set_aside", "drift", "odd")]
    groups = group_exclusions([Exclusion("a", "build", "error", "disk full")], states, {"a"})
    assert [(group.stage, group.rule, group.exclusions[0].slide) for group in groups] == [("build", "drift", "b")]


def test_a_split_is_counted_and_its_leaks_are_named(shards: Path, tmp_path: Path) -> None:
    change(shards, "tiny_3", lambda record: record.update(patient="P1"))
    fold = Fold(Part(("tiny_1",), ("P1",)), Part(("gone",), ("P9",)), Part(("tiny_3",), ("P1",)))
    split = tmp_path / "a.json"
    Split("patients", 3, "patient", {}, ("not disjoint <by> patient",), 3, "0" * 64, {"f0": fold}).write(split)
    table = make_report(shards, [split]).splits[0]
    assert [(part.part, part.spots, part.missing) for part in table.folds[0].parts] == [
        ("train", 64, ()),
        ("val", 0, ("gone",)),
        ("test", 64, ()),
    ]
    assert table.folds[0].shared == ("P1",)
    assert table.unlisted == ("tiny_2",)
    text = words(shards, split)
    for wanted in ("patients in two parts: P1", "not in this set: gone", "not disjoint <by> patient", "seed: 3"):
        assert wanted in text, wanted


def test_marks_licences_and_claims_of_the_scale(shards: Path) -> None:
    change(shards, "tiny_1", lambda record: record.update(patient_from="slide", licence="CC BY-NC-SA 4.0"))
    change(shards, "tiny_2", lambda record: record.update(patient_from="study", licence=" "))
    change(shards, "tiny_3", lambda record: record.update(um_per_px_claims={"metadata": 2.01, "spot diameter": 1.6}))
    report = make_report(shards)
    assert [row.scale_disagrees for row in report.rows] == [False, False, True]
    text = Page(render(report)).words
    for wanted in (
        "In 1 of 3 slides the slide stands for the patient",
        "In 1 of 3 slides the study stands for the patient",
        "1 slides, CC BY-NC-SA 4.0: non-commercial",
        "1 slides, none named: no licence is named",
        "metadata 2.01 (+0.5 %)",
        "spot diameter 1.6 (-20.0 %) disagrees",
        "In 1 slides a claim of the scale is off",
    ):
        assert wanted in text, wanted


def test_a_damaged_slide_is_named_and_the_page_is_written(shards: Path, capsys: pytest.CaptureFixture[str]) -> None:
    payload = (shards / "tiny_1.counts.npy").read_bytes()
    (shards / "tiny_1.counts.npy").write_bytes(payload[: len(payload) // 2])
    (shards / "tiny_2.h5ad").unlink()
    assert main(["report", str(shards)]) == 1
    error = capsys.readouterr().err
    assert "tiny_1.counts.npy cannot be read as an array" in error
    assert "tiny_2.h5ad cannot be drawn" in error
    assert "2 slides have files that cannot be read" in (shards / "report.html").read_text()


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("exclusions.json", "{", "exclusions.json is not JSON"),
        ("exclusions.json", '{"a": 1}', "should be a list"),
        ("state/a.json", '{"slide": "a"}', "with the keys slide and status"),
        ("genes.tsv", "gene\n", "the first line should be"),
    ],
)
def test_a_damaged_file_of_the_set_is_named(
    shards: Path, file: str, content: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (shards / file).parent.mkdir(exist_ok=True)
    (shards / file).write_text(content)
    assert main(["report", str(shards)]) == 1
    assert said in capsys.readouterr().err
    assert not (shards / "report.html").exists()


def test_wrong_calls(shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path)]) == 1
    assert "is not a shard set" in capsys.readouterr().err
    assert main(["report", str(shards), "--split", str(tmp_path / "none.json")]) == 2
    assert "there is no split file" in capsys.readouterr().err
    (tmp_path / "list.json").write_text("[1]")
    assert main(["report", str(shards), "--split", str(tmp_path / "list.json")]) == 2
    assert "list.json has split format version None" in capsys.readouterr().err


def test_spots_boxes_and_scale_bar_are_drawn_where_they_are() -> None:
    xy = np.array([[100.0, 60.0], [140.0, 60.0], [60.0, 150.0]])
    overlay = Overlay(xy, spot_px=20, niche_px=60, boxed=(0, 2), neighbours=(1,), um_per_px=5.0)
    drawn = np.asarray(draw(Image.new("RGB", (300, 200), "white"), overlay)).astype(int)

    def colour(x: int, y: int) -> str:
        red, green, blue = drawn[y, x]
        if min(red, green, blue) > 240:
            return "white"
        if max(red, green, blue) < 40:
            return "black"
        if blue > red and blue > green:
            return "blue"
        return "green" if green > red else "orange" if green > 60 else "red"

    assert colour(100, 60) == "red"
    assert colour(140, 60) == "orange"
    assert colour(60, 150) == "white"  # a spot is a ring: the tissue shows
    assert [colour(*place) for place in ((51, 150), (68, 150), (60, 141), (60, 158))] == ["green"] * 4
    assert [colour(*place) for place in ((70, 60), (129, 40), (30, 150), (60, 120))] == ["blue"] * 4
    assert choose_bar_length(300 * 5.0) == 200
    bar = [x for x in range(300) if colour(x, 193) == "black"]
    assert abs(len(bar) * 5.0 - 200) <= 2 * 5.0


def test_spots_lie_on_the_tissue_of_a_slides_own_picture(shards: Path) -> None:
    """The tiny slides are painted: stain under the spots, light glass around; x and y cannot be exchanged unseen."""
    row = make_report(shards).rows[0]
    picture = np.asarray(Image.open(io.BytesIO(row.thumbnail.jpeg)).convert("L")).astype(float)
    assert picture.shape == (row.thumbnail.height, row.thumbnail.width)
    assert max(picture.shape) == 900
    table = anndata.read_h5ad(shards / row.record.h5ad)
    library = table.uns["spatial"]["tiny_1"]
    zoom = 900 / max(library["images"]["lowres"].shape[:2])
    xy = table.obsm["spatial"] * library["scalefactors"]["tissue_lowres_scalef"] * zoom
    x, y = np.round(xy).astype(int).T
    assert (picture[y, x] < 215).all()
    assert picture[:15].mean() > 215  # above the first row of spots is glass


def test_a_small_picture_keeps_its_budget() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (360, 360, 3), dtype=np.uint8))
    small = _encode_within(noise, SMALL)
    assert len(small.jpeg) <= 25_000
    assert _encode_within(noise, ThumbnailSize(360, 10**9)).width == 360


def test_histograms_count_everything() -> None:
    chart = make_histogram("t", [0, 1, 10, 100, 100], "spots")
    assert [bar.text.rsplit(": ", 1)[1] for bar in chart.bars] == ["1 spots", "1 spots", "2 spots"]
    assert "5 spots, median 10, 0 to 100 (1 are zero and not drawn)" in chart.caption
    assert [(tick.x, tick.text) for tick in chart.ticks] == [(0.0, "1"), (WIDTH / 2, "10"), (WIDTH, "100")]
    assert len(make_histogram("t", [5, 5], "slides").bars) == 1
    assert make_histogram("t", [], "slides").bars == ()


def test_byte_sizes() -> None:
    values = (0, 999, 1000, 12_345_678, 999_999, 150_000_000, 2e12)
    assert [format_bytes(value) for value in values] == [
        "0 B", "999 B", "1.0 kB", "12.3 MB", "1.0 MB", "150 MB", "2.0 TB"
    ]  # fmt: skip


def test_the_template_is_shipped_with_the_package() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["data_prep.report"]
    shipped = {path for pattern in patterns for path in (REPOSITORY / "data_prep" / "report").glob(pattern)}
    assert {path.name for path in shipped} == {"page.html.j2"}
