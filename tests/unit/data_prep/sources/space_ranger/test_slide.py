"""Every form in which Space Ranger's output is passed on, written as it lies on disk and built into a shard set."""

from __future__ import annotations

import gzip
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import sparse
from scipy.io import mmwrite

from data_prep.build.build import BuildReport, build
from data_prep.build.config import BuildConfig, SourceEntry
from data_prep.check.check import check_set
from data_prep.slide.curation import Curation
from data_prep.slide.slide import Slide
from data_prep.sources import ReaderOptions, find_source
from stalign_pl.errors import ConfigError
from tests.support.data_prep.reading import copy, read_one
from tests.support.data_prep.whole_image import whole_image
from tests.support.tiny_cohort import write_matrix, write_spatial


def build_all(folder: Path, out: Path, options: ReaderOptions | None = None) -> BuildReport:
    entry = SourceEntry("space_ranger", folder, options=options or ReaderOptions())
    report = build(BuildConfig((entry,), curation=Curation(duplicates="keep"), slide_as_patient=True), out)
    if report.failed == {}:
        assert list(check_set(out, deep=True)) == []
    return report


def failure(folder: Path, out: Path, options: ReaderOptions | None = None) -> str:
    (reason,) = build_all(folder, out, options).failed.values()
    return reason


def same(one: Slide, other: Slide) -> bool:
    return (
        np.array_equal(one.barcodes, other.barcodes)
        and np.array_equal(one.xy, other.xy)
        and (one.counts != other.counts).nnz == 0
        and one.gene_ids.tolist() == other.gene_ids.tolist()
        and one.gene_symbols.tolist() == other.gene_symbols.tolist()
    )


def pack(source: Path, target: Path) -> None:
    target.write_bytes(gzip.compress(source.read_bytes()))


def edit_positions(folder: Path, change: Callable[[str], str]) -> None:
    path = folder / "spatial" / "tissue_positions.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], *map(change, lines[1:])]) + "\n")


def h5_to_mtx(h5: Path, folder: Path, packed: bool = True, old: bool = False, prefix: str = "") -> None:
    """The matrix folder of Cell Ranger 3 (gzipped), of hand-unpacked copies, or of version 2 (genes.tsv, 2 columns)."""
    folder.mkdir(exist_ok=True)
    with h5py.File(h5, "r") as file:
        matrix = file["matrix"]
        table = sparse.csc_matrix(
            (matrix["data"][()], matrix["indices"][()], matrix["indptr"][()]), matrix["shape"][()]
        )
        barcodes = matrix["barcodes"].asstr()[()]
        columns = [matrix[f"features/{key}"].asstr()[()] for key in ("id", "name", "feature_type")]
    mmwrite(folder / "m.mtx", table)
    files = {
        "matrix.mtx": (folder / "m.mtx").read_bytes(),
        "barcodes.tsv": "".join(f"{name}\n" for name in barcodes).encode(),
        "genes.tsv" if old else "features.tsv": "".join(
            "\t".join(row[: 2 if old else 3]) + "\n" for row in zip(*columns, strict=True)
        ).encode(),
    }
    (folder / "m.mtx").unlink()
    for name, content in files.items():
        path = folder / f"{prefix}{name}{'.gz' if packed else ''}"
        path.write_bytes(gzip.compress(content) if packed else content)


@pytest.mark.parametrize(("packed", "old"), [(True, False), (False, False), (False, True), (True, True)])
def test_a_matrix_folder_is_the_h5(tiny_cohort: Path, tmp_path: Path, packed: bool, old: bool) -> None:
    folder = copy(tiny_cohort, tmp_path / "in")
    h5_to_mtx(folder / "filtered_feature_bc_matrix.h5", folder / "filtered_feature_bc_matrix", packed, old)
    (folder / "filtered_feature_bc_matrix.h5").unlink()
    assert same(read_one("space_ranger", tmp_path / "in", "tiny_1"), read_one("space_ranger", tiny_cohort, "tiny_1"))
    assert build_all(tmp_path / "in", tmp_path / "set").failed == {}


def test_a_matrix_folder_is_what_scanpy_reads(tiny_cohort: Path, tmp_path: Path) -> None:
    import scanpy

    folder = copy(tiny_cohort, tmp_path)
    h5_to_mtx(folder / "filtered_feature_bc_matrix.h5", folder / "filtered_feature_bc_matrix")
    (folder / "filtered_feature_bc_matrix.h5").unlink()
    table = scanpy.read_10x_mtx(folder / "filtered_feature_bc_matrix", var_names="gene_ids")
    slide = read_one("space_ranger", tmp_path, "tiny_1")
    assert slide.barcodes.tolist() == table.obs_names.tolist()
    assert slide.gene_ids.tolist() == table.var_names.tolist()
    assert np.array_equal(slide.counts.toarray(), table.X.toarray())


def cut_mtx(folder: Path) -> None:
    path = folder / "matrix.mtx.gz"
    path.write_bytes(path.read_bytes()[:-300])


def far_index(folder: Path) -> None:
    text = gzip.decompress((folder / "matrix.mtx.gz").read_bytes()).decode().splitlines()
    text[-1] = "4000 1 3"
    (folder / "matrix.mtx.gz").write_bytes(gzip.compress("\n".join(text).encode()))


def lose_barcode(folder: Path) -> None:
    names = gzip.decompress((folder / "barcodes.tsv.gz").read_bytes()).splitlines(keepends=True)
    (folder / "barcodes.tsv.gz").write_bytes(gzip.compress(b"".join(names[:-1])))


def fraction(folder: Path) -> None:
    text = gzip.decompress((folder / "matrix.mtx.gz").read_bytes()).decode().replace("integer", "real").splitlines()
    text[-1] = text[-1].rsplit(" ", 1)[0] + " 0.5"
    (folder / "matrix.mtx.gz").write_bytes(gzip.compress("\n".join(text).encode()))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (cut_mtx, r"matrix\.mtx\.gz cannot be read: "),
        (far_index, r"matrix\.mtx\.gz cannot be read: .*index"),
        (lose_barcode, r"matrix\.mtx\.gz is 40 x 64, but features\.tsv\.gz has 40 features and barcodes\.tsv\.gz 63"),
        (fraction, r"matrix\.mtx\.gz: 1 values are not counts; the first is 0\.5"),
        (
            lambda folder: (folder / "features.tsv.gz").unlink(),
            r"matrix\.mtx\.gz has no features\.tsv \(or genes\.tsv\)",
        ),
    ],
)
def test_a_damaged_matrix_folder_is_named(
    tiny_cohort: Path, tmp_path: Path, spoil: Callable[[Path], None], message: str
) -> None:
    folder = copy(tiny_cohort, tmp_path / "in")
    h5_to_mtx(folder / "filtered_feature_bc_matrix.h5", folder / "filtered_feature_bc_matrix")
    (folder / "filtered_feature_bc_matrix.h5").unlink()
    spoil(folder / "filtered_feature_bc_matrix")
    reason = failure(tmp_path / "in", tmp_path / "set")
    assert re.search(message, reason), reason


@pytest.mark.parametrize("name", ["tissue_positions.parquet", "tissue_positions_list.csv.gz"])
def test_positions_in_other_files(tiny_cohort: Path, tmp_path: Path, name: str) -> None:
    folder = copy(tiny_cohort, tmp_path / "in")
    positions = folder / "spatial" / "tissue_positions.csv"
    if name.endswith("parquet"):
        pd.read_csv(positions).to_parquet(positions.with_name(name))
    else:
        pack(positions, positions.with_name(name))
    positions.unlink()
    assert same(read_one("space_ranger", tmp_path / "in", "tiny_1"), read_one("space_ranger", tiny_cohort, "tiny_1"))
    assert build_all(tmp_path / "in", tmp_path / "set").failed == {}


def test_positions_with_columns_of_other_names_are_refused(tiny_cohort: Path, tmp_path: Path) -> None:
    folder = copy(tiny_cohort, tmp_path / "in")
    path = folder / "spatial" / "tissue_positions.csv"
    path.write_text(path.read_text().replace("pxl_row_in_fullres", "imagerow"))
    assert "has no columns ['pxl_row_in_fullres']; it has ['barcode'" in failure(tmp_path / "in", tmp_path / "set")


def to_geo(slide: Path, target: Path, prefix: str, mtx: bool) -> None:
    """A slide as GEO has it: every file in one folder, prefixed and gzipped; hires image, no full-resolution one."""
    target.mkdir(exist_ok=True)
    if mtx:
        h5_to_mtx(slide / "filtered_feature_bc_matrix.h5", target, prefix=f"{prefix}_", old=True)
    else:
        shutil.copy(slide / "filtered_feature_bc_matrix.h5", target / f"{prefix}_filtered_feature_bc_matrix.h5")
    for path in sorted((slide / "spatial").iterdir()):
        name = path.name.replace("tissue_positions.csv", "tissue_positions_list.csv")
        pack(path, target / f"{prefix}_{name}.gz")
    (target / f"{prefix}_detected_tissue_image.jpg.gz").write_bytes(gzip.compress(b"a grey rendering"))


def test_geo_copies_are_read_where_they_lie(tiny_cohort: Path, tmp_path: Path) -> None:
    geo = tmp_path / "GSE1"
    to_geo(tiny_cohort / "tiny_1", geo, "GSM1_S1", mtx=False)
    to_geo(tiny_cohort / "tiny_2", geo, "GSM1_S1_b", mtx=True)
    pack(tiny_cohort / "tiny_2" / "full_image.png", geo / "GSM1_S1_b.png.gz")
    (geo / "GSM9_cells_filtered_feature_bc_matrix.h5").write_bytes(b"of single cells")
    before = {path.name: path.stat().st_mtime_ns for path in geo.iterdir()}
    report = build_all(geo, tmp_path / "set")
    assert {path.name: path.stat().st_mtime_ns for path in geo.iterdir()} == before
    assert report.failed == {}
    assert list(report.left_out) == ["GSM9_cells"]
    assert "has no tissue_positions file" in report.left_out["GSM9_cells"]
    assert [(slide.name, slide.image) for slide in report.manifest.slides] == [
        ("GSM1_S1", "hires"),
        ("GSM1_S1_b", "fullres"),
    ]
    assert same(read_one("space_ranger", geo, "GSM1_S1"), read_one("space_ranger", tiny_cohort, "tiny_1"))
    second = read_one("space_ranger", geo, "GSM1_S1_b")
    original = read_one("space_ranger", tiny_cohort, "tiny_2")
    assert same(second, original)
    assert np.array_equal(whole_image("b", second.image), whole_image("a", original.image))
    assert second.image.path == geo / "GSM1_S1_b.png.gz"


def test_a_cut_gzipped_image_and_a_gzipped_h5(tiny_cohort: Path, tmp_path: Path) -> None:
    geo = tmp_path / "GSE1"
    to_geo(tiny_cohort / "tiny_1", geo, "GSM1", mtx=False)
    pack(geo / "GSM1_filtered_feature_bc_matrix.h5", geo / "GSM1_filtered_feature_bc_matrix.h5.gz")
    (geo / "GSM1_filtered_feature_bc_matrix.h5").unlink()
    assert same(read_one("space_ranger", geo, "GSM1"), read_one("space_ranger", tiny_cohort, "tiny_1"))
    image = geo / "GSM1_tissue_hires_image.png.gz"
    image.write_bytes(image.read_bytes()[:4000])
    assert "GSM1_tissue_hires_image.png.gz cannot be read" in failure(geo, tmp_path / "set")


def test_a_folder_of_human_pilot_and_one_of_10x_pages(tiny_cohort: Path, tmp_path: Path) -> None:
    """HumanPilot: flat, positions in a .txt without header, the h5 prefixed. 10x: prefixed beside spatial/."""
    pilot = tmp_path / "in" / "151507"
    pilot.mkdir(parents=True)
    slide = tiny_cohort / "tiny_1"
    for path in sorted((slide / "spatial").iterdir()):
        shutil.copy(path, pilot / path.name)
    lines = (pilot / "tissue_positions.csv").read_text().splitlines(keepends=True)
    (pilot / "tissue_positions_list.txt").write_text("".join(lines[1:]))
    (pilot / "tissue_positions.csv").unlink()
    shutil.copy(slide / "filtered_feature_bc_matrix.h5", pilot / "151507_filtered_feature_bc_matrix.h5")
    shutil.copy(slide / "full_image.png", pilot / "151507_full_image.png")
    page = copy(tiny_cohort, tmp_path / "in")
    (page / "filtered_feature_bc_matrix.h5").rename(page / "V1_Heart_filtered_feature_bc_matrix.h5")
    (page / "full_image.png").rename(page / "V1_Heart_image.png")
    report = build_all(tmp_path / "in", tmp_path / "set")
    assert report.failed == {}
    assert [(slide.name, slide.image) for slide in report.manifest.slides] == [
        ("151507", "fullres"),
        ("tiny_1", "fullres"),
    ]
    assert same(
        read_one("space_ranger", tmp_path / "in", "151507"), read_one("space_ranger", tmp_path / "in", "tiny_1")
    )


@pytest.mark.parametrize("place", ["outs/S1_image.png", "microscope_image/scan.png", "scan.tif"])
def test_places_of_the_full_resolution_image(tiny_cohort: Path, tmp_path: Path, place: str) -> None:
    folder = copy(tiny_cohort, tmp_path)
    (folder / "outs").mkdir()
    for name in ("spatial", "filtered_feature_bc_matrix.h5"):
        shutil.move(folder / name, folder / "outs" / name)
    (folder / place).parent.mkdir(exist_ok=True)
    Image.open(folder / "full_image.png").save(folder / place)
    (folder / "full_image.png").unlink()
    slide = read_one("space_ranger", tmp_path, "tiny_1")
    assert (slide.image.path, slide.image.kind, slide.notes) == (folder / place, "fullres", ())
    assert slide.spot_px == 32.5
    (folder / place).unlink()
    slide = read_one("space_ranger", tmp_path, "tiny_1")
    assert slide.notes == ("image: tissue_hires_image.png, 0.5 of full resolution; no full-resolution image",)


def test_broken_scale_factors_beside_a_full_resolution_image_are_named(tiny_cohort: Path, tmp_path: Path) -> None:
    folder = copy(tiny_cohort, tmp_path / "in")
    path = folder / "spatial" / "scalefactors_json.json"
    whole = json.loads(path.read_text())
    path.write_text(path.read_text()[:-5])
    assert "scalefactors_json.json is not JSON" in failure(tmp_path / "in", tmp_path / "set")
    path.write_text(json.dumps({**whole, "spot_diameter_fullres": -3}))
    reason = failure(tmp_path / "in", tmp_path / "set")
    assert "scalefactors_json.json: spot_diameter_fullres is -3; a number above 0 is wanted" in reason
    path.unlink()
    assert read_one("space_ranger", tmp_path / "in", "tiny_1").spot_px is None


@pytest.mark.parametrize(("in_matrix", "in_positions"), [("", "-1"), ("-1", ""), ("-2", "-1")])
def test_suffixes_of_barcodes_may_differ(tiny_cohort: Path, tmp_path: Path, in_matrix: str, in_positions: str) -> None:
    folder = copy(tiny_cohort, tmp_path / "in")
    with h5py.File(folder / "filtered_feature_bc_matrix.h5", "r+") as file:
        names = [name.removesuffix("-1") + in_matrix for name in file["matrix/barcodes"].asstr()[()]]
        del file["matrix/barcodes"]
        file["matrix/barcodes"] = np.array(names, dtype="S")
    edit_positions(folder, lambda line: line.replace("-1,", f"{in_positions},", 1))
    slide = read_one("space_ranger", tmp_path / "in", "tiny_1")
    original = read_one("space_ranger", tiny_cohort, "tiny_1")
    assert np.array_equal(slide.xy, original.xy)
    assert slide.barcodes.tolist() == names
    assert "matched without their suffix" in slide.notes[0]
    assert build_all(tmp_path / "in", tmp_path / "set").failed == {}


def test_an_aggregated_matrix_is_refused(tiny_cohort: Path, tmp_path: Path) -> None:
    folder = copy(tiny_cohort, tmp_path / "in")
    with h5py.File(folder / "filtered_feature_bc_matrix.h5", "r+") as file:
        file["matrix/barcodes"][3] = file["matrix/barcodes"][3].replace(b"-1", b"-2")
    reason = failure(tmp_path / "in", tmp_path / "set")
    assert "2 capture areas (barcodes end in -1, -2)" in reason
    assert "spaceranger count" in reason


def test_a_raw_matrix_is_cut_to_the_tissue(tiny_cohort: Path, tmp_path: Path) -> None:
    folder = copy(tiny_cohort, tmp_path / "in")
    (folder / "filtered_feature_bc_matrix.h5").rename(folder / "raw_feature_bc_matrix.h5")
    edit_positions(folder, lambda line: line.replace(",1,0,", ",0,0,", 1))  # the first row is glass
    slide = read_one("space_ranger", tmp_path / "in", "tiny_1")
    assert len(slide) == 56
    assert "raw matrix: 8 spots off the tissue left out by in_tissue" in slide.notes
    (record,) = build_all(tmp_path / "in", tmp_path / "set").manifest.slides
    assert (record.spots, record.notes) == (56, slide.notes)
    shutil.copy(tiny_cohort / "tiny_1" / "filtered_feature_bc_matrix.h5", folder)
    notes = read_one("space_ranger", tmp_path / "in", "tiny_1").notes
    assert notes == ("8 spots of the matrix are not in tissue and left out",)
    edit_positions(folder, lambda line: re.sub(r",1,(?=\d+,\d+,)", ",0,", line, count=1))
    assert "none of the matrix's 64 spots has in_tissue 1" in failure(tmp_path / "in", tmp_path / "other")


def test_antibodies_are_dropped_and_probe_panels_noted(tiny_cohort: Path, tmp_path: Path) -> None:
    folder = copy(tiny_cohort, tmp_path / "in")
    with h5py.File(folder / "filtered_feature_bc_matrix.h5", "r+") as file:
        kinds = ["Gene Expression"] * 38 + ["Antibody Capture"] * 2
        del file["matrix/features/feature_type"]
        file["matrix/features/feature_type"] = np.array(kinds, dtype="S")
    (folder / "probe_set.csv").write_text(
        "#probe_set_file_format=1.0\n#panel_name=Visium Human Transcriptome Probe Set v2.0\n#panel_type=predesigned\n"
        "gene_id,probe_seq,probe_id,included,region\n"
    )
    slide = read_one("space_ranger", tmp_path / "in", "tiny_1")
    assert slide.counts.shape == (64, 38)
    assert not slide.absent_is_zero
    assert slide.notes == (
        "left out 2 features of type Antibody Capture",
        "probe panel (Visium Human Transcriptome Probe Set v2.0): 38 genes, the others were not measured",
    )
    (record,) = build_all(tmp_path / "in", tmp_path / "set").manifest.slides
    assert (record.measured_genes, record.notes) == (38, slide.notes)


def test_a_probe_panel_is_known_by_its_number_of_genes(tiny_cohort: Path, tmp_path: Path) -> None:
    folder = copy(tiny_cohort, tmp_path)
    counts = np.zeros((64, 18085), np.int32)
    counts[:, :3] = 2
    ids = [f"ENSG{number:011d}" for number in range(18085)]
    write_matrix(
        folder / "filtered_feature_bc_matrix.h5", [f"1{spot:03d}ACGT-1" for spot in range(64)], ids, ids, counts
    )
    (note,) = read_one("space_ranger", tmp_path, "tiny_1").notes
    assert note.startswith("probe panel (human, version 2, by the number of genes): 18085 genes")


def test_a_cytassist_run_is_noted_and_its_coarse_frame(tiny_cohort: Path, tmp_path: Path) -> None:
    folder = copy(tiny_cohort, tmp_path / "in")
    (folder / "full_image.png").unlink()
    Image.new("RGB", (30, 30), "pink").save(folder / "spatial" / "cytassist_image.tiff")
    notes = read_one("space_ranger", tmp_path / "in", "tiny_1").notes
    assert notes[0].startswith("image: tissue_hires_image.png")
    assert notes[1:] == (
        "CytAssist run, array of 65 spots",
        "cytassist_image.tiff (eosin only, 3,000 px) not used as image",
    )

    def shrunk(line: str) -> str:
        cells = line.split(",")
        return ",".join([*cells[:4], *(str(float(cell) * 0.45) for cell in cells[4:])])

    edit_positions(folder, shrunk)
    factors = folder / "spatial" / "scalefactors_json.json"
    values = json.loads(factors.read_text())
    diameter = values["spot_diameter_fullres"] * 0.45
    factors.write_text(json.dumps({**values, "tissue_hires_scalef": 0.5 / 0.45, "spot_diameter_fullres": diameter}))
    (record,) = build_all(tmp_path / "in", tmp_path / "set").manifest.slides
    assert "its full-resolution frame has 4.4 um a pixel" in record.notes[-1]


def test_the_11_mm_array_is_a_cytassist_run(tiny_cohort: Path, tmp_path: Path) -> None:
    folder = copy(tiny_cohort, tmp_path)
    path = folder / "spatial" / "tissue_positions.csv"
    lines = path.read_text().splitlines()
    lines += [f"X{number}-1,0,{number},0,0,0" for number in range(14_336 + 1 - len(lines))]
    path.write_text("\n".join(lines) + "\n")
    assert read_one("space_ranger", tmp_path, "tiny_1").notes == ("CytAssist run, array of 14336 spots",)


def write_hd(folder: Path, sides: tuple[int, ...] = (8, 16)) -> np.ndarray:
    """A Visium HD run of Space Ranger 4: 8 x 9 bins of 16 um (16 x 18 of 8 um) at .5 um a pixel; [N, 2] xy of 16 um."""
    rng = np.random.default_rng(3)
    outs = folder / "outs"
    shown = np.empty((0, 2))
    image = rng.integers(90, 200, (280, 310, 3), dtype=np.uint8)
    for side in sides:
        rows, columns = 8 * 16 // side, 9 * 16 // side
        grid = np.array([(column, row) for row in range(rows) for column in range(columns)])
        xy = (grid + 0.5) * side / 0.5 + 8
        barcodes = [f"s_{side:03d}um_{row:05d}_{column:05d}-1" for column, row in grid]
        binned = outs / "binned_outputs" / f"square_{side:03d}um"
        write_spatial(binned, barcodes, grid, xy, image)
        spatial = binned / "spatial"
        pd.read_csv(spatial / "tissue_positions.csv").to_parquet(spatial / "tissue_positions.parquet")
        (spatial / "tissue_positions.csv").unlink()
        factors = json.loads((spatial / "scalefactors_json.json").read_text())
        factors |= {"bin_size_um": side, "microns_per_pixel": 0.5, "spot_diameter_fullres": side / 0.5}
        (spatial / "scalefactors_json.json").write_text(json.dumps(factors))
        Image.new("RGB", (30, 30)).save(spatial / "cytassist_image.tiff")
        ids = [f"ENSG{number:011d}" for number in range(12)]
        write_matrix(binned / "filtered_feature_bc_matrix.h5", barcodes, ids, ids, rng.poisson(2.0, (len(grid), 12)))
        shown = xy if side == 16 else shown
    shutil.copytree(outs / "binned_outputs" / f"square_{sides[0]:03d}um" / "spatial", outs / "spatial")
    (outs / "segmented_outputs").mkdir()
    (folder / "microscope_image").mkdir()
    Image.fromarray(image).save(folder / "microscope_image" / "tissue.tif")
    return shown


def test_visium_hd_bins(tmp_path: Path) -> None:
    xy = write_hd(tmp_path / "in" / "colon")
    slide = read_one("space_ranger", tmp_path / "in", "colon")
    assert np.allclose(slide.xy, xy)
    assert (slide.technology, slide.lattice, slide.pitch_um, slide.spot_um) == ("Visium HD", "square", 16, 16)
    assert slide.um_per_px == pytest.approx(0.5)
    assert (slide.um_per_px_claims, slide.spot_px) == ({"metadata": 0.5}, 32)
    assert (slide.image.kind, slide.image.path.name) == ("fullres", "tissue.tif")
    assert slide.notes[0] == "segmented_outputs (cells) not read; spots are bins"
    report = build_all(tmp_path / "in", tmp_path / "set")
    assert report.failed == {}
    assert (report.manifest.slides[0].spots, report.manifest.slides[0].spot_px) == (72, 32)
    fine = ReaderOptions(bin_um=8)
    assert build_all(tmp_path / "in", tmp_path / "fine", fine).manifest.slides[0].spots == 288
    reason = failure(tmp_path / "in", tmp_path / "none", ReaderOptions(bin_um=2))
    assert "has no square_002um (bin_um: 2); it has ['square_008um', 'square_016um']" in reason


def test_one_folder_of_bins_alone(tmp_path: Path) -> None:
    """square_016um as a folder of its own: what it is shows in its barcodes."""
    write_hd(tmp_path / "in" / "colon", (16,))
    shutil.move(tmp_path / "in" / "colon" / "outs" / "binned_outputs" / "square_016um", tmp_path / "alone")
    slide = read_one("space_ranger", tmp_path / "alone", "alone")
    assert (slide.lattice, slide.pitch_um, slide.image.kind) == ("square", 16, "hires")


def test_two_slides_of_one_name_and_an_empty_folder_are_refused(tiny_cohort: Path, tmp_path: Path) -> None:
    to_geo(tiny_cohort / "tiny_1", tmp_path / "a", "S1", mtx=False)
    to_geo(tiny_cohort / "tiny_1", tmp_path / "b", "S1", mtx=True)
    with pytest.raises(ConfigError, match="two slides are named 'S1'"):
        find_source("space_ranger")(tmp_path, ReaderOptions())
    (tmp_path / "c").mkdir()
    with pytest.raises(ConfigError, match="holds no Space Ranger slide: wanted a folder with spatial/"):
        find_source("space_ranger")(tmp_path / "c", ReaderOptions())


@pytest.mark.real_data
def test_a_real_slide_as_a_geo_copy(real_data: Path, tmp_path: Path) -> None:
    """crc16 prefixed and gzipped is crc16; its lowres image is read through gzip."""
    crc16 = real_data / "crc16"
    geo = tmp_path / "GSE"
    geo.mkdir()
    (geo / "GSM5_crc16_filtered_feature_bc_matrix.h5").symlink_to(crc16 / "filtered_feature_bc_matrix.h5")
    for path in sorted((crc16 / "spatial").iterdir()):
        pack(path, geo / f"GSM5_crc16_{path.name}.gz")
    original, slide = read_one("space_ranger", crc16, "crc16"), read_one("space_ranger", geo, "GSM5_crc16")
    assert same(slide, original)
    assert np.array_equal(whole_image("geo", slide.image), whole_image("crc16", original.image))
    assert slide.notes[0].startswith("image: GSM5_crc16_tissue_lowres_image.png.gz, 0.0858 of full resolution")
