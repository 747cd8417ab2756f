"""HEST-1k: the real catalogue, and samples in the layout of the download."""

from __future__ import annotations

import csv
import json
import pickle
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import tifffile
from scipy import sparse

from data_prep.build.build import build
from data_prep.build.config import BuildConfig, SourceEntry
from data_prep.slide.curation import Curation
from data_prep.slide.slide import SlideError
from data_prep.sources import find_source
from data_prep.sources.hest.catalogue import read_samples
from data_prep.sources.hest.slide import find_catalogue, read_catalogue
from data_prep.sources.job import Discovery, ReaderOptions
from stalign_pl.errors import ConfigError
from tests.support.data_prep.whole_image import whole_image

COLUMNS = (
    "dataset_title", "id", "image_filename", "organ", "species", "patient", "st_technology", "license", "study_link",
    "inter_spot_dist", "spot_diameter", "spots_under_tissue", "nb_genes", "pixel_size_um_estimated", "tissue",
)  # fmt: skip

VISIUM = {"st_technology": "Visium", "inter_spot_dist": "100", "spot_diameter": "55", "pixel_size_um_estimated": "2.5"}
LEGACY = {
    "st_technology": "Spatial Transcriptomics", "inter_spot_dist": "200", "spot_diameter": "100",
    "pixel_size_um_estimated": "5",
}  # fmt: skip
METADATA_UM_PER_PX = {"hex": 2.6, "legacy": 5.1, "square": 2.6}
XENIUM = {"st_technology": "Xenium", "pixel_size_um_estimated": "2.5"}

PITCH_PX = 40.0


def read(folder: Path, catalogue: Path | None = None) -> Discovery:
    return find_source("hest")(folder, ReaderOptions(catalogue=catalogue))


def write_catalogue(folder: Path, rows: dict[str, dict[str, str]], name: str = "HEST_v1_1_0.csv") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / name, "w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="")
        writer.writeheader()
        for sample, row in rows.items():
            facts = {"dataset_title": "A study, of\ntwo lines", "organ": "Brain", "species": "Homo sapiens"}
            writer.writerow({"id": sample, "license": "CC BY 4.0", "patient": "Patient 1", **facts, **row})
    return folder / name


def spots(kind: str) -> tuple[pd.DataFrame, np.ndarray]:
    """obs and positions (x, y) of an 8 x 8 array as HEST-1k writes them."""
    column, row = (side.ravel() for side in np.meshgrid(np.arange(8), np.arange(8)))
    if kind == "hex":
        array_row, array_col = row + 4, 2 * column + row % 2
        xy = np.stack([array_col / 2, row * np.sqrt(3) / 2], 1)
        names = [f"ACGT{i:012d}-1" for i in range(64)]
    else:  # the first number of AxB is called array_row and runs along x
        array_row, array_col = column + 3, row + 9
        xy = np.stack([column, row], 1) + np.random.default_rng(3).normal(0, 0.04, (64, 2)) * (kind == "legacy")
        names = [f"{a:03d}x{b:03d}" for a, b in zip(array_row, array_col, strict=True)]
    obs = pd.DataFrame({"in_tissue": False, "array_row": array_row, "array_col": array_col}, index=names)
    return obs, xy * PITCH_PX + 60


def write_sample(
    folder: Path,
    name: str,
    kind: str = "hex",
    image: bool = True,
    change: Callable[[anndata.AnnData], anndata.AnnData | None] = lambda table: None,
    genes: list[str] | None = None,
) -> np.ndarray:
    """One sample: h5ad, pyramidal TIFF, metadata. Returns the counts."""
    obs, xy = spots(kind)
    counts = np.random.default_rng(4).poisson(1.2, (64, 5)).astype(np.float32)
    table = anndata.AnnData(sparse.csr_matrix(counts), obs=obs)
    table.var_names = genes or ["TP53", "GAPDH", "ACTB", "MT-CO1", "ALB"]
    table.obsm["spatial"] = xy
    reduced = np.random.default_rng(5).integers(0, 255, (110, 110, 3)).astype(np.uint8)
    factors = {"tissue_downscaled_fullres_scalef": 0.25, "spot_diameter_fullres": 22.0}
    table.uns["spatial"] = {"ST": {"images": {"downscaled_fullres": reduced}, "scalefactors": factors}}
    table = change(table) or table
    for part in ("st", "wsis", "metadata"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    table.write_h5ad(folder / "st" / f"{name}.h5ad")
    (folder / "metadata" / f"{name}.json").write_text(json.dumps({"pixel_size_um_estimated": METADATA_UM_PER_PX[kind]}))
    if image:
        write_pyramid(folder / "wsis" / f"{name}.tif", np.kron(reduced, np.ones((4, 4, 1), np.uint8)))
    return counts


def write_pyramid(path: Path, pixels: np.ndarray) -> None:
    """A tiled BigTIFF with a reduced level."""
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        shared: dict[str, Any] = {"tile": (128, 128), "photometric": "rgb", "compression": "jpeg"}
        file.write(pixels, subifds=1, **shared)
        file.write(pixels[::2, ::2], subfiletype=1, **shared)


def test_the_real_catalogue_counts_what_its_authors_published(real_data: Path) -> None:
    path = find_catalogue(real_data / "hest")
    rows = read_catalogue(path)
    assert (path.name, len(rows)) == ("HEST_v1_1_0.csv", 1229)
    kinds = Counter((row.species, row.technology) for row in rows.values())
    assert kinds["human", "Visium"] == 421
    assert kinds["human", "ST"] == 163
    assert Counter(row.technology for row in rows.values()) == {"Visium": 602, "ST": 552, "Xenium": 65, "Visium HD": 10}
    human = [row for row in rows.values() if (row.species, row.technology) == ("human", "Visium")]
    assert 0.16 < min(row.um_per_px or 0 for row in human) < max(row.um_per_px or 9 for row in human) < 1.15
    assert rows["SPA89"].patient == f"{rows['SPA89'].study}: BC23268"
    assert (rows["SPA89"].spots, rows["SPA89"].genes, rows["SPA89"].licence) == (435, 17546, "CC BY 4.0")
    assert (rows["SPA89"].tissue, rows["SPA89"].um_per_px) == ("breast", 0.691228392)
    assert all(row.study and row.name == name for name, row in rows.items())


def test_real_patients_belong_to_one_study_each_and_no_publication_is_torn(real_data: Path) -> None:
    path = find_catalogue(real_data / "hest")
    rows = read_catalogue(path)
    raw = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig").set_index("id")
    for column in ("dataset_title", "study_link"):
        for mark, samples in raw[raw[column] != ""].groupby(column).groups.items():
            assert len({rows[name].study for name in samples}) == 1, mark
    assert len({row.study for row in rows.values()}) > 100
    assert sum(row.patient == "" for row in rows.values()) == (raw.patient.str.strip() == "").sum() == 949
    assert rows["NCBI770"].patient == "Human squamous cell carcinoma: Patient 2"  # its title has one link with another
    blocks = {rows[name].study for name in raw.index if "Block A Section" in raw.dataset_title[name]}
    assert blocks == {"Human Breast Cancer (Block A Section 1)"}


def test_a_diameter_larger_than_the_distance_is_a_swap(real_data: Path) -> None:
    samples = read_samples(find_catalogue(real_data / "hest"))
    swapped = {(sample.pitch_um, sample.spot_um) for sample in samples.values() if sample.swapped}
    assert swapped == {(150.0, 110.0)}
    assert sum(sample.swapped for sample in samples.values()) == 12


def test_a_visium_sample_reads_as_it_was_written(tmp_path: Path) -> None:
    counts = write_sample(tmp_path, "NCBI1")
    write_catalogue(tmp_path, {"NCBI1": VISIUM | {"spots_under_tissue": "64"}})
    found = read(tmp_path)
    job = pickle.loads(pickle.dumps(found.jobs[0]))
    slide = job.read()
    obs, xy = spots("hex")
    assert slide.barcodes.tolist() == obs.index.tolist()  # all of them, though in_tissue says none
    assert np.array_equal(slide.counts.toarray(), counts)
    assert slide.counts.dtype == np.int32
    assert np.allclose(slide.xy, xy)
    assert slide.lattice == "hex"
    assert slide.grid is not None
    assert np.array_equal(slide.grid, obs[["array_col", "array_row"]].to_numpy())
    assert slide.um_per_px == pytest.approx(2.5)
    assert slide.um_per_px_claims == {"catalogue": 2.5, "metadata": 2.6}
    assert (slide.image.kind, slide.image.path.name, slide.notes) == ("fullres", "NCBI1.tif", ())
    assert (slide.patient, slide.study) == ("A study, of\ntwo lines: Patient 1", "A study, of\ntwo lines")
    assert (slide.species, slide.technology, slide.licence) == ("human", "Visium", "CC BY 4.0")
    assert {path.name for path in job.files()} == {"NCBI1.h5ad", "NCBI1.tif", "NCBI1.json"}
    assert found.catalogue["NCBI1"].spots == 64


def test_three_technologies_build(tmp_path: Path) -> None:
    folder = tmp_path / "hest"
    counts = write_sample(folder, "NCBI1")
    write_sample(folder, "SPA1", "legacy")
    write_sample(folder, "TENX1", "square", image=False)
    write_catalogue(folder, {"NCBI1": VISIUM, "SPA1": LEGACY | {"patient": "P2"}, "TENX1": XENIUM, "INT1": VISIUM})
    rules = Curation(duplicates="keep")  # two of them are written with the same counts
    report = build(BuildConfig((SourceEntry("hest", folder),), curation=rules, slide_as_patient=True), tmp_path / "set")
    assert report.failed == {}
    assert report.left_out == {"INT1": "has no st/INT1.h5ad"}
    slides = {slide.name: slide for slide in report.manifest.slides}
    assert [slides[name].lattice for name in ("NCBI1", "SPA1", "TENX1")] == ["hex", "square", "square"]
    assert [slides[name].image for name in ("NCBI1", "SPA1", "TENX1")] == ["fullres", "fullres", "lowres"]
    assert slides["NCBI1"].um_per_px_claims == {"catalogue": 2.5, "metadata": 2.6}
    assert slides["SPA1"].um_per_px == pytest.approx(5, rel=0.05)
    built = anndata.read_h5ad(tmp_path / "set" / slides["NCBI1"].h5ad)
    assert sorted(built.X.toarray().sum(axis=0).tolist()) == sorted(counts.sum(axis=0).tolist())


def test_without_an_image_the_reduced_one_is_taken_and_said(tmp_path: Path) -> None:
    write_sample(tmp_path, "NCBI1", image=False)
    write_catalogue(tmp_path, {"NCBI1": VISIUM})
    slide = read(tmp_path).jobs[0].read()
    assert (slide.image.kind, slide.image.scale) == ("lowres", 0.25)
    assert whole_image("NCBI1", slide.image).shape == (110, 110, 3)
    assert "no wsis/NCBI1.tif" in slide.notes[0]


def test_legacy_places_pitch_and_spot(tmp_path: Path) -> None:
    def even(table: anndata.AnnData) -> anndata.AnnData:
        return table[(table.obs.array_row + table.obs.array_col) % 2 == 0].copy()

    write_sample(tmp_path, "SPA1", "legacy")
    write_sample(tmp_path, "NCBI770", "legacy", change=even)
    write_sample(tmp_path, "NCBI771", "legacy", change=even)
    wide = {"inter_spot_dist": "110", "spot_diameter": "150"}
    write_catalogue(tmp_path, {"SPA1": LEGACY, "NCBI770": LEGACY | wide, "NCBI771": LEGACY})
    by_name = {job.name: job.read() for job in read(tmp_path).jobs}
    usual, wide_array, dense = by_name["SPA1"], by_name["NCBI770"], by_name["NCBI771"]
    assert (usual.pitch_um, usual.spot_um, usual.lattice, usual.notes) == (200.0, 100.0, "square", ())
    assert usual.grid is not None
    assert usual.grid[:2].tolist() == [[3, 9], [4, 9]]  # x first
    assert (wide_array.pitch_um, wide_array.spot_um) == (150.0, 110.0)
    assert "spots of 150 um, 110 um apart" in wide_array.notes[0]
    assert wide_array.pitch_px == pytest.approx(PITCH_PX * np.sqrt(2), rel=0.05)
    assert dense.pitch_um == pytest.approx(200 / np.sqrt(2))


def test_pseudo_spots_take_their_pitch_from_the_pixel_size(tmp_path: Path) -> None:
    write_sample(tmp_path, "TENX1", "square")
    hd = {"st_technology": "Visium HD", "inter_spot_dist": "2", "spot_diameter": "2", "pixel_size_um_estimated": "3.2"}
    write_sample(tmp_path, "TENX2", "square")
    (tmp_path / "metadata" / "TENX2.json").unlink()
    write_catalogue(tmp_path, {"TENX1": XENIUM, "TENX2": hd})
    by_name = {job.name: job.read() for job in read(tmp_path).jobs}
    for name, pitch, technology in (("TENX1", 2.6 * PITCH_PX, "Xenium"), ("TENX2", 3.2 * PITCH_PX, "Visium HD")):
        slide = by_name[name]
        assert (slide.pitch_um, slide.spot_um, slide.technology) == (pitch, pitch, technology)
        assert slide.lattice == "square"
        assert "pooled" in slide.notes[0]


@pytest.mark.parametrize("break_columns", ["nan", "shuffled", "odd and even", "absent"])
def test_array_columns_that_are_not_true_are_replaced(tmp_path: Path, break_columns: str) -> None:
    def change(table: anndata.AnnData) -> None:
        if break_columns == "nan":
            table.obs["array_row"] = table.obs["array_row"].astype(float)
            table.obs.iloc[3, table.obs.columns.get_loc("array_row")] = np.nan
        elif break_columns == "shuffled":
            order = np.random.default_rng(0).permutation(64)
            table.obs["array_row"] = table.obs["array_row"].to_numpy()[order]
            table.obs["array_col"] = table.obs["array_col"].to_numpy()[order]
        elif break_columns == "odd and even":
            table.obs["array_col"] = table.obs["array_col"] // 2
        else:
            del table.obs["array_col"]

    write_sample(tmp_path, "NCBI1", change=change)
    write_catalogue(tmp_path, {"NCBI1": VISIUM})
    slide = read(tmp_path).jobs[0].read()
    truth = spots("hex")[0][["array_col", "array_row"]].to_numpy()
    assert slide.grid is not None
    assert np.array_equal(slide.grid - slide.grid[0], truth - truth[0])
    assert "found from these" in slide.notes[0]


def test_genes_are_symbols_or_ids_or_both(tmp_path: Path) -> None:
    ids = [f"ENSG{number:011d}" for number in range(5)]

    def both(table: anndata.AnnData) -> None:
        table.var["gene_ids"] = [*ids[:4], "Unspecified"]

    write_sample(tmp_path, "A")
    write_sample(tmp_path, "B", genes=[f"{gene}.2" for gene in ids])
    write_sample(tmp_path, "C", change=both)
    write_catalogue(tmp_path, {"A": VISIUM, "B": VISIUM, "C": VISIUM})
    symbols, only_ids, named = (job.genes() for job in read(tmp_path).jobs)
    assert (symbols.ids, symbols.symbols[0]) == (("",) * 5, "TP53")
    assert (only_ids.ids, only_ids.symbols) == (tuple(ids), ("",) * 5)
    assert (named.ids, named.symbols[0], named.symbols[4]) == ((*ids[:4], ""), "TP53", "ALB")


def test_what_is_left_out_has_its_reason_and_the_catalogue_can_be_named(tmp_path: Path) -> None:
    write_sample(tmp_path, "A")
    write_sample(tmp_path, "X")
    write_catalogue(tmp_path, {"A": VISIUM, "B": VISIUM}, "HEST_v1_9_0.csv")
    write_catalogue(tmp_path, {"A": VISIUM, "C": VISIUM}, "HEST_v1_10_0.csv")
    found = read(tmp_path)
    assert [job.name for job in found.jobs] == ["A"]
    assert found.left_out == {
        "C": "has no st/C.h5ad",
        "X": "the catalogue does not list it; there is st/X.h5ad",
    }
    assert found.catalogue.keys() == {"A", "C"}
    other = write_catalogue(tmp_path / "elsewhere", {"X": VISIUM}, "mine.csv")
    assert [job.name for job in read(tmp_path, other).jobs] == ["X"]
    with pytest.raises(ConfigError, match=r"no HEST-1k catalogue: wanted HEST_v1_1_0.csv"):
        read(tmp_path / "st")
    with pytest.raises(ConfigError, match="label columns"):
        find_source("hest")(tmp_path, ReaderOptions(labels=("layer",)))
    with pytest.raises(ConfigError, match="there is no catalogue"):
        read(tmp_path, tmp_path / "none.csv")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


def drop(member: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        with h5py.File(path, "a") as file:
            del file[member]

    return change


def put(member: str, value: np.ndarray | float) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        with h5py.File(path, "a") as file:
            attributes = dict(file[member].attrs)
            del file[member]
            file[member] = value
            file[member].attrs.update(attributes)

    return change


def unknown_encoding(path: Path) -> None:
    with h5py.File(path, "a") as file:
        file["X"].attrs["encoding-type"] = "csx_matrix"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut, "cannot be read as h5ad"),
        (drop("X"), "it has no X"),
        (drop("X/indices"), "cannot be read as h5ad"),
        (drop("var"), "it has no var"),
        (drop("obsm/spatial"), "it has no obsm/spatial"),
        (unknown_encoding, "cannot be read as h5ad: X: .*csx_matrix"),
        (put("X/indices", np.full(9, 77, np.int32)), "cannot be read as h5ad"),
        (put("obsm/spatial", np.zeros((64, 3))), r"obsm\['spatial'\] has shape \(64, 3\) for 64 spots"),
        (put("obsm/spatial", np.full((64, 2), np.nan)), "not finite"),
        (put("uns/spatial/ST/scalefactors/tissue_downscaled_fullres_scalef", 0.0), "scalef is 0.0; a number above 0"),
        (drop("uns/spatial/ST/images"), "has no image: neither wsis/A.tif nor uns"),
    ],
)
def test_a_damaged_h5ad_is_named(tmp_path: Path, damage: Callable[[Path], None], message: str) -> None:
    write_sample(tmp_path, "A", image=False)
    write_catalogue(tmp_path, {"A": VISIUM})
    damage(tmp_path / "st" / "A.h5ad")
    with pytest.raises(SlideError, match=message) as caught:
        read(tmp_path).jobs[0].read()
    assert str(tmp_path / "st" / "A.h5ad") in str(caught.value)


def test_counts_that_are_none_and_metadata_that_is_none_are_named(tmp_path: Path) -> None:
    def normalise(table: anndata.AnnData) -> None:
        table.X = np.log1p(table.X.toarray())

    write_sample(tmp_path, "A", change=normalise)
    write_sample(tmp_path, "B")
    write_catalogue(tmp_path, {"A": VISIUM, "B": VISIUM})
    normalised, good = read(tmp_path).jobs
    with pytest.raises(SlideError, match=r"A.h5ad: X: .* values are not counts"):
        normalised.read()
    metadata = tmp_path / "metadata" / "B.json"
    for text, message in (
        ("{", "B.json cannot be read as JSON"),
        ('{"pixel_size_um_estimated": "wide"}', "pixel_size_um_estimated is 'wide'; a number above 0"),
        ('{"pixel_size_um_estimated": -1}', "pixel_size_um_estimated is -1"),
    ):
        metadata.write_text(text)
        with pytest.raises(SlideError, match=message):
            good.read()
    metadata.write_text('{"pixel_size_um_estimated": NaN}')
    assert good.read().um_per_px_claims == {"catalogue": 2.5}


def test_pseudo_spots_without_a_pixel_size_are_refused(tmp_path: Path) -> None:
    write_sample(tmp_path, "T", "square")
    (tmp_path / "metadata" / "T.json").unlink()
    write_catalogue(tmp_path, {"T": {"st_technology": "Xenium"}})
    with pytest.raises(SlideError, match=r"64 pseudo-spots of Xenium .* metadata/T.json"):
        read(tmp_path).jobs[0].read()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("st_technology", "technology", 1), "no column 'st_technology'"),
        (lambda text: text.replace(",55,", ",wide,", 1), "spot_diameter of 'A' is 'wide'; a number above 0"),
        (lambda text: text.replace(",55,", ",-5,", 1), "spot_diameter of 'A' is '-5'"),
        (lambda text: text + "x,A" + "," * 13 + "\n", "repeats id 'A'"),
        (lambda text: text + "x," + "," * 13 + "\n", "has no id"),
    ],
)
def test_a_damaged_catalogue_is_named(tmp_path: Path, change: Callable[[str], str], message: str) -> None:
    path = write_catalogue(tmp_path, {"A": VISIUM})
    path.write_text(change(path.read_text(encoding="utf-8-sig")))
    with pytest.raises(ConfigError, match=f"HEST_v1_1_0.csv.*{message}"):
        read(tmp_path)
