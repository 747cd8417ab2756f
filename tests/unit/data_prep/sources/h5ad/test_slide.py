"""The AnnData reader, on files that the tests write."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from scipy import sparse

from data_prep.build.build import build
from data_prep.build.config import BuildConfig, SourceEntry
from data_prep.check.check import check_set
from data_prep.slide.slide import SlideError
from data_prep.sources import ReaderOptions, find_source
from tests.support.data_prep.reading import read_one
from tests.support.tiny_cohort import hex_grid, write_spatial

if TYPE_CHECKING:
    from anndata import AnnData


def write_h5ad(
    path: Path, spatial: bool = True, grid: bool = True, image: bool = True, ids: bool = False
) -> np.ndarray:
    import anndata
    import pandas as pd

    places, xy = hex_grid(4, 5)
    counts = np.random.default_rng(1).poisson(2.0, (20, 6)).astype(np.float32)
    symbols = [f"G{number}" for number in range(6)]
    table = anndata.AnnData(counts, obs=pd.DataFrame(index=[f"s{spot}-1" for spot in range(20)]))
    table.var_names = [f"ENSG{number:011d}.3" for number in range(6)] if ids else symbols
    if ids:
        table.var["symbol"] = symbols
    table.obs["layer"] = pd.Categorical(["L1"] * 8 + ["L2"] * 11 + ["nan"])
    table.obs["mine"] = ["a", "b"] * 10
    if grid:
        table.obs["array_row"], table.obs["array_col"] = places[:, 1], places[:, 0]
    if spatial:
        table.obsm["spatial"] = xy
    if image:
        picture = np.full((80, 100, 3), 0.5, np.float32)
        picture[0, 1] = 0.25  # an image of one colour is refused
        table.uns["spatial"] = {"lib": {"images": {"lowres": picture}, "scalefactors": {"tissue_lowres_scalef": 0.25}}}
    path.parent.mkdir(exist_ok=True)
    table.write_h5ad(path)
    return counts


def test_anndata_with_everything_inside(tmp_path: Path) -> None:
    from data_prep.images import open_image

    counts = write_h5ad(tmp_path / "one.h5ad", ids=True)
    slide = read_one("anndata", tmp_path / "one.h5ad", "one")
    assert np.array_equal(slide.counts.toarray(), counts)
    assert np.allclose(slide.xy, hex_grid(4, 5)[1])
    assert slide.gene_ids[2] == "ENSG00000000002"
    assert slide.gene_symbols[2] == "G2"
    assert slide.lattice == "hex"
    assert list(slide.labels) == ["layer"]
    assert slide.labels["layer"].tolist() == ["L1"] * 8 + ["L2"] * 11 + [""]
    with open_image("one", slide.image) as image:
        pixels = image.region(0, 0, image.width, image.height)
    assert (pixels.shape, pixels.dtype, int(pixels[0, 0, 0])) == ((80, 100, 3), np.uint8, 128)


def test_anndata_with_named_labels_and_without_grid(tmp_path: Path) -> None:
    write_h5ad(tmp_path / "one.h5ad", grid=False)
    slide = read_one("anndata", tmp_path, "one", ReaderOptions(labels=("mine",)))
    assert list(slide.labels) == ["mine"]
    assert (slide.lattice, slide.grid) == ("none", None)
    assert slide.um_per_px == pytest.approx(2.0)
    job = find_source("anndata")(tmp_path, ReaderOptions(labels=("no",))).jobs[0]
    with pytest.raises(SlideError, match=r"no label column 'no'; obs has \['layer', 'mine'\]"):
        job.read()


def test_anndata_with_spatial_folder_beside(tmp_path: Path) -> None:
    folder = tmp_path / "slice"
    folder.mkdir()
    write_h5ad(folder / "151.h5ad", spatial=False, grid=False, image=False)
    grid, xy = hex_grid(4, 5)
    write_spatial(folder, [f"s{spot}-1" for spot in range(20)], grid, xy, np.zeros((300, 400, 3), np.uint8))
    slide = read_one("anndata", tmp_path, "151")
    assert np.allclose(slide.xy, xy)
    assert np.array_equal(slide.grid, grid)
    assert slide.image.kind == "hires"


def test_anndata_without_positions_or_image_is_named(tmp_path: Path) -> None:
    write_h5ad(tmp_path / "a.h5ad", spatial=False)
    write_h5ad(tmp_path / "b.h5ad", image=False)
    first, second = find_source("anndata")(tmp_path, ReaderOptions()).jobs
    with pytest.raises(SlideError, match=r"no obsm\['spatial'\]"):
        first.read()
    with pytest.raises(SlideError, match="has no image"):
        second.read()


def edit(path: Path, change: Callable[[AnnData], None]) -> None:
    import anndata

    table = anndata.read_h5ad(path)
    change(table)
    table.write_h5ad(path)


def test_a_file_of_several_slides_without_library_id_is_refused(tmp_path: Path) -> None:
    write_h5ad(tmp_path / "one.h5ad")
    edit(tmp_path / "one.h5ad", lambda table: table.uns["spatial"].update(other=table.uns["spatial"]["lib"]))
    with pytest.raises(SlideError, match=r"holds 2 slides \(lib, other\), and obs has no column 'library_id'"):
        find_source("anndata")(tmp_path, ReaderOptions()).jobs[0].read()


def test_one_slide_a_library(tmp_path: Path) -> None:
    path = tmp_path / "in" / "cohort.h5ad"
    path.parent.mkdir()
    counts = write_h5ad(path)

    def three(table: AnnData) -> None:
        table.obs["library_id"] = ["a"] * 10 + ["b"] * 8 + ["c"] * 2
        lib = table.uns["spatial"].pop("lib")
        small = {"images": {"lowres": lib["images"]["lowres"][:, :60]}, "scalefactors": dict(lib["scalefactors"])}
        table.uns["spatial"] = {"a": lib, "b": small}

    edit(path, three)
    report = build(BuildConfig((SourceEntry("anndata", path.parent),), slide_as_patient=True), tmp_path / "set")
    assert [(slide.name, slide.spots) for slide in report.manifest.slides] == [("cohort_a", 10)]
    assert "spots lie outside" in report.failed["cohort_b"]  # its picture is narrower on purpose: it is b's own
    assert report.left_out == {"cohort_c": f"has no entry in uns['spatial'] of {path}, so no image"}
    slide = read_one("anndata", path.parent, "cohort_b")
    assert np.array_equal(slide.counts.toarray(), counts[10:18])
    assert slide.image.member == "uns/spatial/b/images/lowres"


def normalise(table: AnnData) -> None:
    table.X = np.log1p(table.X)


def to_layer(table: AnnData) -> None:
    table.layers["counts"] = table.X.copy()
    normalise(table)


def to_raw(table: AnnData) -> None:
    """As scanpy's tutorials do: .raw keeps all genes, X the variable ones, scaled."""
    table.raw = table.copy()
    normalise(table)
    table._inplace_subset_var(table.var_names[1:4])


def sparse_and_raw(table: AnnData) -> None:
    table.X = sparse.csr_matrix(table.X)
    to_raw(table)


@pytest.mark.parametrize(
    ("move", "place"), [(to_layer, "layers['counts']"), (to_raw, "raw.X"), (sparse_and_raw, "raw.X")]
)
def test_counts_of_a_normalised_file(tmp_path: Path, move: Callable[[AnnData], None], place: str) -> None:
    path = tmp_path / "in" / "one.h5ad"
    path.parent.mkdir()
    counts = write_h5ad(path)
    edit(path, move)
    slide = read_one("anndata", path, "one")
    assert np.array_equal(slide.counts.toarray(), counts)
    assert slide.gene_symbols.tolist() == [f"G{number}" for number in range(6)]
    assert slide.notes[0] == f"counts from {place}; X does not hold whole counts"
    report = build(BuildConfig((SourceEntry("anndata", path.parent),), slide_as_patient=True), tmp_path / "set")
    assert report.failed == {}
    assert list(check_set(tmp_path / "set", deep=True)) == []


def test_a_file_without_counts_is_told_where_was_looked(tmp_path: Path) -> None:
    write_h5ad(tmp_path / "one.h5ad")

    def spoil(table: AnnData) -> None:
        normalise(table)
        table.layers["scaled"] = table.X - 1

    edit(tmp_path / "one.h5ad", spoil)
    job = find_source("anndata")(tmp_path, ReaderOptions()).jobs[0]
    for reading in (job.genes, job.read):
        with pytest.raises(SlideError) as caught:
            reading()
        assert "X holds " in caught.value.what
        assert "layers['counts'] is absent, raw.X is absent (layers: ['scaled'])" in caught.value.what


def test_the_source_image_is_taken_where_it_is(tmp_path: Path) -> None:
    from PIL import Image

    path = tmp_path / "one.h5ad"
    write_h5ad(path)

    def with_metadata(table: AnnData) -> None:
        library = table.uns["spatial"]["lib"]
        library["metadata"] = {"source_image_path": "/elsewhere/scan.png"}
        library["images"]["hires"] = np.full((160, 200, 3), 0.5, np.float32)
        library["scalefactors"] |= {"tissue_hires_scalef": 0.5, "spot_diameter_fullres": 32.5}

    edit(path, with_metadata)
    slide = read_one("anndata", path, "one")
    assert (slide.image.kind, slide.image.scale, slide.spot_px) == ("hires", 0.5, 32.5)
    assert slide.notes == (
        "the full-resolution image /elsewhere/scan.png is not here",
        "image: hires, 0.5 of full resolution",
    )
    Image.new("RGB", (400, 320)).save(tmp_path / "scan.png")
    slide = read_one("anndata", path, "one")
    assert (slide.image.path, slide.image.kind, slide.notes) == (tmp_path / "scan.png", "fullres", ())


def test_a_damaged_scale_factor_and_spots_of_another_array_are_named(tmp_path: Path) -> None:
    write_h5ad(tmp_path / "a" / "a.h5ad")
    write_h5ad(tmp_path / "b" / "b.h5ad")
    edit(
        tmp_path / "a" / "a.h5ad",
        lambda table: table.uns["spatial"]["lib"]["scalefactors"].update(tissue_lowres_scalef=-1),
    )

    def legacy(table: AnnData) -> None:
        table.obs_names = [f"{spot}x3" for spot in range(20)]

    edit(tmp_path / "b" / "b.h5ad", legacy)
    first, second = find_source("anndata")(tmp_path, ReaderOptions()).jobs
    with pytest.raises(SlideError, match=r"uns/spatial/lib/scalefactors: tissue_lowres_scalef is .*-1"):
        first.read()
    with pytest.raises(SlideError, match="'0x3' are of a legacy spatial transcriptomics array"):
        second.read()


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("in_tissue", ["yes"] * 20, r"obs\['in_tissue'\]: could not convert string to float: 'yes'; 0 and 1"),
        ("in_tissue", [2] + [1] * 19, r"obs\['in_tissue'\] holds 2; 0 and 1 are wanted"),
        ("array_row", [np.nan] + [0] * 19, r"array_col, array_row of 's0-1' are \[0.0, nan\]; whole numbers"),
    ],
)
def test_strange_columns_of_obs_are_named(tmp_path: Path, column: str, value: list[Any], message: str) -> None:
    write_h5ad(tmp_path / "one.h5ad")
    edit(tmp_path / "one.h5ad", lambda table: table.obs.__setitem__(column, value))
    with pytest.raises(SlideError, match=message):
        find_source("anndata")(tmp_path, ReaderOptions()).jobs[0].read()


def test_a_spatial_folder_beside_two_files_is_neither_ones(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_h5ad(tmp_path / f"{name}.h5ad", spatial=False, grid=False, image=False)
    grid, xy = hex_grid(4, 5)
    write_spatial(tmp_path, [f"s{spot}-1" for spot in range(20)], grid, xy, np.zeros((300, 400, 3), np.uint8))
    with pytest.raises(SlideError, match=r"has no obsm\['spatial'\] .* that is this file's alone"):
        find_source("anndata")(tmp_path, ReaderOptions()).jobs[0].read()


def test_suffixes_of_the_positions_beside_may_differ_and_spots_off_the_tissue_go(tmp_path: Path) -> None:
    write_h5ad(tmp_path / "one.h5ad", spatial=False, grid=False, image=False)
    edit(tmp_path / "one.h5ad", lambda table: table.obs.insert(0, "in_tissue", [0] * 2 + [1] * 18))
    grid, xy = hex_grid(4, 5)
    write_spatial(tmp_path, [f"s{spot}-2" for spot in range(20)], grid, xy, np.zeros((300, 400, 3), np.uint8))
    slide = read_one("anndata", tmp_path, "one")
    assert np.allclose(slide.xy, xy[2:])
    assert slide.barcodes[0] == "s2-1"
    assert slide.notes[0] == "2 spots off the tissue left out by obs['in_tissue']"
    assert "matched without their suffix (s0-1 and s0-2)" in slide.notes[1]


def test_a_file_of_an_old_anndata_is_read(tmp_path: Path) -> None:
    """Before 0.7, obs and var were compound arrays, and categories stood in uns."""
    import h5py

    path = tmp_path / "old.h5ad"
    counts = write_h5ad(path)
    with h5py.File(path, "r+") as file:
        for axis, names in (("obs", [f"s{spot}-1" for spot in range(20)]), ("var", [f"G{gene}" for gene in range(6)])):
            del file[axis]
            kind = np.dtype([("index", h5py.string_dtype()), ("n", "f4")])
            file[axis] = np.array([(name, 1.0) for name in names], dtype=kind)
        for key in list(file.attrs):
            del file.attrs[key]
    slide = read_one("anndata", path, "old")
    assert np.array_equal(slide.counts.toarray(), counts)
    assert slide.gene_symbols[0] == "G0"


def test_a_folder_with_two_files_is_left_out_and_no_file_refused(tmp_path: Path) -> None:
    from stalign_pl.errors import ConfigError

    (tmp_path / "pair").mkdir()
    with pytest.raises(ConfigError, match="holds no AnnData slide"):
        find_source("anndata")(tmp_path, ReaderOptions())
    for name in ("pair/a.h5ad", "pair/b.h5ad", "c.h5ad"):
        write_h5ad(tmp_path / name)
    discovery = find_source("anndata")(tmp_path, ReaderOptions())
    assert [job.name for job in discovery.jobs] == ["c"]
    assert list(discovery.left_out) == ["pair"]
