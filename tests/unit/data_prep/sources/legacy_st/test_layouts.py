"""Legacy ST in the layouts that it is passed on in, each written as it lies on disk and built into a shard set."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_prep.build.build import build
from data_prep.build.config import BuildConfig, SourceEntry
from data_prep.check.check import check_set
from data_prep.slide.slide import Slide, SlideError
from data_prep.sources import ReaderOptions, find_source
from stalign_pl.errors import ConfigError
from tests.support.data_prep.reading import read_one

SPOTS = [(x, y) for x in range(3, 7) for y in range(10, 13)]
GENES = ["ENSG00000141510", "ENSG00000012048.23", "WDFY4", "WDFY4.1"]
COUNTS = np.random.default_rng(0).poisson(3.0, (len(SPOTS), len(GENES)))


def pixels(x: int, y: int) -> tuple[float, float]:
    return (x - 2) * 60.5, (y - 9) * 61.0


def count_lines(separator: str = "x", r_header: bool = False, prefix: str = "") -> list[str]:
    """Spots x genes. `r_header`: as R's write.table, which names no index column."""
    rows = [
        f"{prefix}{x}{separator}{y}\t" + "\t".join(map(str, row)) for (x, y), row in zip(SPOTS, COUNTS, strict=True)
    ]
    return [("" if r_header else "\t") + "\t".join(GENES), *rows, f"{prefix}30{separator}30\t" + "\t".join("1111")]


def transposed(lines: list[str]) -> list[str]:
    return ["\t".join(column) for column in zip(*(line.split("\t") for line in lines), strict=True)]


def write(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = ("\n".join(lines) + "\n").encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)


def write_image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(1).integers(0, 255, (300, 320, 3), dtype=np.uint8)).save(path)


def spot_lines(header: str = "x\ty\tpixel_x\tpixel_y") -> list[str]:
    return [header, *("\t".join(map(str, (x, y, *pixels(x, y)))) for x, y in SPOTS)]


def built(folder: Path, out: Path) -> list[tuple[str, str, int]]:
    report = build(BuildConfig((SourceEntry("legacy_st", folder),), slide_as_patient=True), out)
    assert report.failed == {}
    assert list(check_set(out, deep=True)) == []
    return [(slide.name, slide.patient, slide.spots) for slide in report.manifest.slides]


def is_right(slide: Slide) -> None:
    assert slide.barcodes.tolist() == [f"{x}x{y}" for x, y in SPOTS]
    assert np.allclose(slide.xy, [pixels(x, y) for x, y in SPOTS])
    assert np.array_equal(slide.counts.toarray(), COUNTS)
    assert slide.gene_ids.tolist() == ["ENSG00000141510", "ENSG00000012048", "", ""]
    assert slide.gene_symbols.tolist() == ["", "", "WDFY4", "WDFY4"]
    assert slide.grid.tolist() == [list(spot) for spot in SPOTS]
    assert slide.absent_is_zero
    assert slide.notes[0] == "1 spots of the counts have no position (under tissue) and are left out"


def test_st_net_folders(tmp_path: Path) -> None:
    place = tmp_path / "in" / "HER2_luminal" / "BC23287"
    for section in ("C1", "C2"):
        write(place / f"BC23287_{section}.tsv.gz", count_lines())
        write(place / f"BC23287_{section}.spots.txt", spot_lines())
        write_image(place / f"BC23287_{section}.jpg")
    regions = [f"{x}x{y}\t{x + 0.01}\t{y - 0.02}\t1\t{'tumor' if x < 5 else 'non'}" for x, y in SPOTS]
    write(place / "BC23287_C1_Coords.tsv", ["\txcoord\tycoord\tlab\ttumor", *regions])
    slide = read_one("legacy_st", tmp_path / "in", "BC23287_C1")
    is_right(slide)
    assert slide.labels["tumor"].tolist() == ["tumor"] * 6 + ["non"] * 6
    assert built(tmp_path / "in", tmp_path / "set") == [("BC23287_C1", "BC23287", 12)]  # C2 has the same counts


def test_st_net_as_published(tmp_path: Path) -> None:
    write(tmp_path / "in" / "BC23209_C1_stdata.tsv.gz", count_lines())
    spots = [f"{x}x{y},{pixels(x, y)[0]},{pixels(x, y)[1]}" for x, y in SPOTS]
    write(tmp_path / "in" / "spots_BC23209_C1.csv.gz", [",X,Y", *spots])
    write_image(tmp_path / "in" / "HE_BC23209_C1.jpg")
    is_right(read_one("legacy_st", tmp_path / "in", "BC23209_C1"))
    assert built(tmp_path / "in", tmp_path / "set") == [("BC23209_C1", "BC23209_C1", 12)]


@pytest.mark.parametrize("blank", ["\t", " "])
def test_st_pipeline_folder_without_header(tmp_path: Path, blank: str) -> None:
    place = tmp_path / "in" / "section_1"
    write(place / "stdata.tsv", count_lines())
    rows = [(x, y, x + 0.02, y - 0.01, *pixels(x, y)) for x, y in SPOTS]
    write(place / "coordinates.txt", [blank.join(map(str, row)) for row in rows])
    write_image(place / "slide.png")
    is_right(read_one("legacy_st", tmp_path / "in", "section_1"))
    assert built(tmp_path / "in", tmp_path / "set") == [("section_1", "section_1", 12)]
    is_right(read_one("legacy_st", place, "section_1"))


@pytest.mark.parametrize(
    "lines",
    [
        transposed(count_lines()),
        transposed(count_lines("_")),
        transposed(count_lines("x", prefix="X")),
        count_lines("_"),
        count_lines(r_header=True),
    ],
    ids=["genes_x_spots", "genes_x_spots_underscore", "R_columns", "underscore", "R_header"],
)
def test_geo_tables(tmp_path: Path, lines: list[str]) -> None:
    write(tmp_path / "in" / "GSM1_S1.tsv.gz", lines)
    write(tmp_path / "in" / "GSM1_S1_coordinates.tsv.gz", spot_lines())
    write_image(tmp_path / "in" / "GSM1_S1_HE.png")
    is_right(read_one("legacy_st", tmp_path / "in", "GSM1_S1"))
    assert built(tmp_path / "in", tmp_path / "set") == [("GSM1_S1", "GSM1_S1", 12)]


def test_her2st_files_in_one_folder_keep_their_regions(tmp_path: Path) -> None:
    write(tmp_path / "A1.tsv.gz", count_lines())
    write(tmp_path / "A1_selection.tsv", spot_lines())
    rows = [f"1x1\t{x}\t{y}\t1\t1\t{'undetermined' if x < 5 else 'fat'}" for x, y in SPOTS]
    write(tmp_path / "A1_labeled_coordinates.tsv", ["Row.names\tx\ty\tpixel_x\tpixel_y\tlabel", *rows])
    write_image(tmp_path / "A1.jpg")
    assert find_source("legacy_st")(tmp_path, ReaderOptions()).left_out == {}
    assert read_one("legacy_st", tmp_path, "A1").labels["label"].tolist() == [""] * 6 + ["fat"] * 6


def section(folder: Path, counts: list[str], spots: list[str]) -> Path:
    write(folder / "A.tsv.gz", counts)
    write(folder / "A_coordinates.tsv", spots)
    write_image(folder / "A.jpg")
    return folder


WRONG = {
    "names": (count_lines("-"), spot_lines(), r"A\.tsv\.gz: '3-10' is no spot; spots are named <x>x<y>"),
    "no_numbers": ([*count_lines()[:-1], "9x9\t1\t1\tmany\t1"], spot_lines(), r"column 'WDFY4' does not hold numbers"),
    "repeated": ([*count_lines(), count_lines()[1]], spot_lines(), r"spot '3x10' occurs more than once"),
    "no_header": (count_lines()[1:], spot_lines(), r"A\.tsv\.gz has no header of genes \(or spots\); it begins '3x10"),
    "ragged": ([*count_lines(), "9x9\t1\t1\t1\t1\t1"], spot_lines(), r"A\.tsv\.gz cannot be read: .*line 15"),
    "columns": (count_lines(), spot_lines("row\tcol\tpx\tpy"), r"has no columns \['x', 'y', 'pixel_x', 'pixel_y'\]"),
    "headless": (count_lines(), ["1\t2\t3\t4\t5"], r"A_coordinates\.tsv has no header and 5 columns"),
    "others": (count_lines(), [spot_lines()[0], "90\t90\t1\t1"], r"no spot of A\.tsv\.gz is in A_coordinates\.tsv"),
    "fraction": ([count_lines()[0], "3x10\t1\t.5\t1\t1"], spot_lines(), "1 values are not counts; the first is 0.5"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_table_is_named(tmp_path: Path, kind: str) -> None:
    counts, spots, message = WRONG[kind]
    (job,) = find_source("legacy_st")(section(tmp_path, counts, spots), ReaderOptions()).jobs
    with pytest.raises(SlideError, match=message):
        job.read()


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no legacy ST section: wanted data/ST-cnts"):
        find_source("legacy_st")(tmp_path, ReaderOptions())
    section(tmp_path / "one", count_lines(), spot_lines())
    (tmp_path / "one" / "A.jpg").unlink()
    assert find_source("legacy_st")(tmp_path, ReaderOptions()).left_out == {"A": "has no A.jpg"}
    section(tmp_path / "two", count_lines(), spot_lines())
    with pytest.raises(ConfigError, match="two sections are named 'A', by"):
        find_source("legacy_st")(tmp_path, ReaderOptions())


@pytest.mark.real_data
def test_mob_is_built(real_data: Path, tmp_path: Path) -> None:
    """Three sections of STUtility; the spots with selected == 1 are those under tissue."""
    sections = built(real_data / "mob", tmp_path / "set")
    assert [name for name, *_ in sections] == ["MOB1", "MOB2", "MOB3"]
    for name, _, spots in sections:
        table = np.genfromtxt(real_data / "mob" / f"alignment_table_{name}.tsv", names=True)
        assert 250 < spots <= (table["selected"] == 1).sum()
