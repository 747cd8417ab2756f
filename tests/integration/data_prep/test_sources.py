"""Readers, on slides that the tests write by hand."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_prep.shards.niches import NeighborRule, find_neighbors
from data_prep.slide.slide import SlideError
from data_prep.sources import ReaderOptions, find_source
from data_prep.sources.sheet import SlideFacts, read_sheet
from stalign_pl.errors import ConfigError
from tests.support.data_prep.reading import copy, read_one
from tests.support.tiny_cohort import domain_of, hex_grid, write_matrix


def test_an_unknown_source_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="space_ranger, legacy_st, anndata"):
        find_source("visium")


def test_space_ranger_reads_what_was_written(tiny_cohort: Path) -> None:
    slide = read_one("space_ranger", tiny_cohort, "tiny_2")
    grid, xy = hex_grid()
    assert np.allclose(slide.xy, xy)
    assert np.array_equal(slide.grid, grid)
    assert slide.um_per_px == pytest.approx(2.0)
    assert (slide.image.kind, slide.image.scale) == ("fullres", 1.0)
    assert "OFFTISSUE-1" not in slide.barcodes
    assert slide.counts.shape == (64, 40)


@pytest.mark.parametrize("header", [True, False])
def test_positions_with_and_without_header(tiny_cohort: Path, tmp_path: Path, header: bool) -> None:
    folder = copy(tiny_cohort, tmp_path)
    positions = folder / "spatial" / "tissue_positions.csv"
    lines = positions.read_text().splitlines(keepends=True)
    (folder / "spatial" / "tissue_positions_list.csv").write_text("".join(lines if header else lines[1:]))
    positions.unlink()
    slide = read_one("space_ranger", tmp_path, "tiny_1")
    assert len(slide) == 64
    assert np.allclose(slide.xy, hex_grid()[1])


def test_the_finest_image_is_taken(tiny_cohort: Path, tmp_path: Path) -> None:
    folder = copy(tiny_cohort, tmp_path)
    (folder / "spatial" / "detected_tissue_image.jpg").write_bytes(b"a grey rendering")
    (folder / "cytassist_image.tiff").write_bytes(b"eosin")
    for gone, kind, scale in (
        ("full_image.png", "hires", 0.5),
        ("spatial/tissue_hires_image.png", "lowres", 0.25),
    ):
        (folder / gone).unlink()
        slide = read_one("space_ranger", tmp_path, "tiny_1")
        assert (slide.image.kind, slide.image.scale) == (kind, scale)
    (folder / "spatial/tissue_lowres_image.png").unlink()
    with pytest.raises(SlideError, match="has no image"):
        find_source("space_ranger")(tmp_path, ReaderOptions()).jobs[0].read()


def test_outs_and_single_folders_are_found(tiny_cohort: Path, tmp_path: Path) -> None:
    folder = copy(tiny_cohort, tmp_path)
    (folder / "outs").mkdir()
    for name in ("spatial", "filtered_feature_bc_matrix.h5"):
        shutil.move(folder / name, folder / "outs" / name)
    assert read_one("space_ranger", tmp_path, "tiny_1").image.path == folder / "full_image.png"
    assert read_one("space_ranger", folder, "tiny_1").barcodes.shape == (64,)
    with pytest.raises(ConfigError, match="no Space Ranger slide"):
        find_source("space_ranger")(folder / "outs" / "spatial", ReaderOptions())


def test_spots_outside_the_tissue_and_unknown_barcodes_are_dropped(tiny_cohort: Path, tmp_path: Path) -> None:
    folder = copy(tiny_cohort, tmp_path)
    positions = folder / "spatial" / "tissue_positions.csv"
    lines = positions.read_text().splitlines()
    lines[1] = lines[1].replace(",1,", ",0,", 1)
    positions.write_text("\n".join(lines[:-3]) + "\n")  # and the last two in-tissue spots are not listed
    slide = read_one("space_ranger", tmp_path, "tiny_1")
    assert slide.barcodes.tolist() == [f"1{spot:03d}ACGT-1" for spot in range(1, 62)]


def write_her2st(root: Path) -> None:
    """Sections A1 (with image and labels), A2 (without image)."""
    data = root / "data"
    for folder in ("ST-cnts", "ST-imgs/A/A1", "ST-spotfiles", "ST-pat/lbl"):
        (data / folder).mkdir(parents=True)
    Image.fromarray(np.full((900, 900, 3), 200, np.uint8)).save(data / "ST-imgs/A/A1/9769_HE.jpg")
    spots = [(x, y) for x in range(2, 6) for y in range(3, 6)]
    selection = ["x\ty\tnew_x\tnew_y\tpixel_x\tpixel_y\tselected"]
    selection += [f"{x}\t{y}\t{x + 0.02}\t{y - 0.01}\t{x * 150}\t{y * 150}\t{int((x, y) != (5, 5))}" for x, y in spots]
    counts = ["\tTP53\tCOG8\tCOG8.1\tFO538757.1"]
    counts += [f"{x}x{y}\t{x}\t{y}\t{10 * x}\t1" for x, y in spots] + ["40x40\t1\t1\t1\t1"]
    labels = ["Row.names\tx\ty\tpixel_x\tpixel_y\tlabel"]
    labels += [f"1x1\t{x + 0.02}\t{y - 0.011}\t1\t1\t{'tumour' if x < 4 else 'undetermined'}" for x, y in spots[:-4]]
    for name in ("A1", "A2"):
        with gzip.open(data / "ST-cnts" / f"{name}.tsv.gz", "wt") as file:
            file.write("\n".join(counts) + "\n")
        (data / "ST-spotfiles" / f"{name}_selection.tsv").write_text("\n".join(selection) + "\n")
    (data / "ST-pat/lbl/A1_labeled_coordinates.tsv").write_text("\n".join([*labels, "1x1\t\t\t1\t1\ttumour"]) + "\n")


def test_her2st_section(tmp_path: Path) -> None:
    write_her2st(tmp_path)
    discovery = find_source("legacy_st")(tmp_path, ReaderOptions())
    assert discovery.left_out == {"A2": "has no image in ST-imgs/A/A2"}
    slide = read_one("legacy_st", tmp_path, "A1")
    assert len(slide) == 11  # 5x5 is not selected, 40x40 has no position
    assert (slide.patient, slide.lattice, slide.absent_is_zero) == ("A", "square", True)
    assert slide.gene_symbols.tolist() == ["TP53", "COG8", "COG8", "FO538757.1"]
    at = slide.barcodes.tolist().index("4x3")
    assert slide.xy[at].tolist() == [600, 450]
    assert slide.counts.toarray()[at].tolist() == [4, 3, 40, 1]
    labels = dict(zip(slide.barcodes, slide.labels["label"], strict=True))
    assert labels["2x3"] == "tumour"
    assert labels["4x3"] == ""  # undetermined
    assert labels["5x4"] == ""  # not in the file
    assert slide.um_per_px == pytest.approx(200 / 150)


def test_flat_legacy_folder(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "M1.tsv.gz", "wt") as file:
        file.write("\tENSMUSG00000064339.1\tENSMUSG00000064337.2\n1x1\t1\t2\n2x1\t3\t4\n1x2\t5\t6\n")
    (tmp_path / "alignment_table_M1.tsv").write_text(
        "x\ty\tnew_x\tnew_y\tpixel_x\tpixel_y\tselected\n1\t1\t1\t1\t50\t50\t1\n2\t1\t2\t1\t90\t50\t1\n1\t2\t1\t2\t50\t90\t0\n"
    )
    (tmp_path / "alignment_table_M2.tsv").write_text("x\ty\n")
    Image.fromarray(np.zeros((120, 120, 3), np.uint8)).save(tmp_path / "M1.jpg")
    slide = read_one("legacy_st", tmp_path, "M1")
    assert slide.barcodes.tolist() == ["1x1", "2x1"]
    assert slide.gene_ids.tolist() == ["ENSMUSG00000064339", "ENSMUSG00000064337"]
    assert slide.patient == ""
    left_out = find_source("legacy_st")(tmp_path, ReaderOptions()).left_out
    assert left_out == {"M2": "has no M2.tsv.gz and no M2.jpg"}


@pytest.mark.parametrize("dense", [False, True])
def test_dense_legacy_arrays_are_turned_squares(tmp_path: Path, dense: bool) -> None:
    spots = [(x, y) for x in range(1, 9) for y in range(1, 9) if not dense or (x + y) % 2 == 0]
    with gzip.open(tmp_path / "M1.tsv.gz", "wt") as file:
        file.write("\tA\n" + "".join(f"{x}x{y}\t1\n" for x, y in spots))
    rows = "".join(f"{x}\t{y}\t{x * 25}\t{y * 25}\t1\n" for x, y in spots)
    (tmp_path / "alignment_table_M1.tsv").write_text("x\ty\tpixel_x\tpixel_y\tselected\n" + rows)
    Image.fromarray(np.zeros((250, 250, 3), np.uint8)).save(tmp_path / "M1.jpg")
    slide = read_one("legacy_st", tmp_path, "M1")
    assert slide.um_per_px == pytest.approx(100 / 25 if dense else 200 / 25)  # dense: two steps of x are 200 um
    ends = find_neighbors(slide, NeighborRule(rings=1)).ring_ends[:, 0]
    middle = [number for number, (x, y) in enumerate(spots) if 1 < x < 8 and 1 < y < 8]
    assert (ends[middle] == 4).all()
    assert ends.min() >= 1


def test_sheet_overrides_the_reader(tiny_cohort: Path, tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("barcode,domain,other\n1000ACGT-1,x,NA\n1001ACGT-1,,y\nelsewhere,z,z\n")
    (tmp_path / "slides.csv").write_text("slide,patient,tissue,labels\ntiny_1,Q, brain ,l.csv\ntiny_2,,,\n")
    rows = read_sheet(tmp_path / "slides.csv")
    assert rows["tiny_2"] == SlideFacts()
    slide = rows["tiny_1"].apply(read_one("space_ranger", tiny_cohort, "tiny_1"))
    assert (slide.patient, slide.tissue, slide.technology) == ("Q", "brain", "Visium")
    assert slide.labels["domain"][:3].tolist() == ["x", "", ""]
    assert slide.labels["other"][:3].tolist() == ["", "y", ""]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("slide,patient,stain\na,b,c\n", r"unknown columns \['stain'\]; known columns: slide, patient"),
        ("name,patient\n", "unknown columns"),
        ("patient\nb\n", "no column 'slide'"),
        ("slide,patient\na,b\na,c\n", "'a' has more than one row"),
    ],
)
def test_wrong_sheets_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "slides.csv").write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_sheet(tmp_path / "slides.csv")


def test_label_file_of_another_slide_is_refused(tiny_cohort: Path) -> None:
    slide = read_one("space_ranger", tiny_cohort, "tiny_1")
    with pytest.raises(SlideError, match="none of its barcodes"):
        SlideFacts(labels=tiny_cohort / "tiny_2" / "labels.csv").apply(slide)


def test_domains_of_the_cohort_are_three() -> None:
    assert np.bincount(domain_of(hex_grid()[1])).min() >= 6


def test_probes_of_antibodies_are_left_out(tiny_cohort: Path, tmp_path: Path) -> None:
    import h5py

    folder = copy(tiny_cohort, tmp_path)
    matrix = folder / "filtered_feature_bc_matrix.h5"
    barcodes = [f"1{spot:03d}ACGT-1" for spot in range(64)]
    write_matrix(matrix, barcodes, ["ENSG00000000001", "CD3"], ["A", "CD3"], np.full((64, 2), 3, np.int32))
    with h5py.File(matrix, "r+") as file:
        file["matrix/features/feature_type"][1] = b"Antibody"
    assert read_one("space_ranger", tmp_path, "tiny_1").gene_symbols.tolist() == ["A"]
