"""SpatialData stores, written with the spatialdata library as spatialdata-io lays out Space Ranger's runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from data_prep.build.build import build
from data_prep.build.config import BuildConfig, SourceEntry
from data_prep.check.check import check_set
from data_prep.slide.slide import SlideError
from data_prep.sources import ReaderOptions, find_source
from stalign_pl.errors import ConfigError
from tests.support.data_prep.reading import read_one
from tests.support.data_prep.whole_image import whole_image
from tests.support.tiny_cohort import domain_of, hex_grid, paint

if TYPE_CHECKING:
    from anndata import AnnData
    from spatialdata import SpatialData
    from spatialdata.transformations import BaseTransformation
    from xarray import DataArray, DataTree

spatialdata = pytest.importorskip("spatialdata")

PLACES, XY = hex_grid(5, 5)
IMAGE = paint(XY, domain_of(XY), np.random.default_rng(0))


def image_of(scale: float, systems: dict[str, BaseTransformation], **keywords: object) -> DataArray | DataTree:
    from PIL import Image
    from spatialdata.models import Image2DModel

    size = (round(IMAGE.shape[1] * scale), round(IMAGE.shape[0] * scale))
    pixels = np.asarray(Image.fromarray(IMAGE).resize(size)).transpose(2, 0, 1)
    return Image2DModel.parse(pixels, dims=("c", "y", "x"), transformations=systems, **keywords)


def table_of(region: str, names: list[str], **obs: Sequence[object] | np.ndarray) -> AnnData:
    import anndata
    from spatialdata.models import TableModel

    counts = np.random.default_rng(5).poisson(2.0, (len(names), 6)).astype(np.float32)
    frame = pd.DataFrame(
        {"region": pd.Categorical([region] * len(names)), "spot_id": range(len(names)), **obs}, index=names
    )
    frame.index = names  # spots are numbered, as spatialdata-io does
    table = anndata.AnnData(counts, obs=frame, var=pd.DataFrame(index=[f"G{number}" for number in range(6)]))
    table.var["gene_ids"] = [f"ENSG{number:011d}" for number in range(6)]
    return TableModel.parse(table, region=region, region_key="region", instance_key="spot_id")


def visium(run: str = "run", full: bool = True, **obs: Sequence[object] | np.ndarray) -> SpatialData:
    """As spatialdata_io.visium: circles in full-resolution pixels, images each in their own coordinate system."""
    from spatialdata.models import ShapesModel
    from spatialdata.transformations import Identity, Scale

    names = [f"{run}{spot:02d}-1" for spot in range(25)]
    systems = {
        "global": Identity(),
        "downscaled_hires": Scale([0.5, 0.5], axes=("x", "y")),
        "downscaled_lowres": Scale([0.25, 0.25], axes=("x", "y")),
    }
    circles = ShapesModel.parse(XY[::-1], geometry=0, radius=16.0, index=range(25)[::-1], transformations=systems)
    images = {
        f"{run}_hires_image": image_of(0.5, {"downscaled_hires": Identity()}),
        f"{run}_lowres_image": image_of(0.25, {"downscaled_lowres": Identity()}),
    }
    if full:
        images[f"{run}_full_image"] = image_of(1.0, {"global": Identity()}, scale_factors=[2])
    grid = {"array_row": PLACES[:, 1], "array_col": PLACES[:, 0]}
    table = table_of(run, names, in_tissue=[1] * 24 + [0], layer=["a"] * 20 + ["b"] * 4 + ["nan"], **grid, **obs)
    return spatialdata.SpatialData(images=images, shapes={run: circles}, tables={"table": table})


@pytest.mark.parametrize(("full", "kind", "scale"), [(True, "fullres", 1.0), (False, "hires", 0.5)])
def test_a_visium_store_is_built(tmp_path: Path, full: bool, kind: str, scale: float) -> None:
    store = visium(full=full)
    store.write(tmp_path / "in" / "breast.zarr")
    slide = read_one("spatialdata", tmp_path / "in", "breast")
    assert np.allclose(slide.xy, XY[:24])  # the shapes stand in another order than the table
    assert np.array_equal(slide.grid, PLACES[:24])
    assert np.array_equal(slide.counts.toarray(), store.tables["table"].X[:24])
    assert (slide.image.kind, slide.image.scale, slide.spot_px) == (kind, scale, 32)
    assert (slide.lattice, slide.um_per_px) == ("hex", pytest.approx(2.0))
    assert slide.labels["layer"].tolist() == ["a"] * 20 + ["b"] * 4
    assert slide.notes[0] == "1 spots off the tissue left out by obs['in_tissue']"
    pixels = whole_image("breast", slide.image)
    if full:
        assert np.array_equal(pixels, IMAGE)
    report = build(BuildConfig((SourceEntry("spatialdata", tmp_path / "in"),), slide_as_patient=True), tmp_path / "set")
    assert report.failed == {}
    assert list(check_set(tmp_path / "set", deep=True)) == []
    (record,) = report.manifest.slides
    assert (record.spots, record.image, record.source) == (24, kind, "spatialdata")


def test_a_store_of_zarr_version_2_is_read(tmp_path: Path) -> None:
    """As spatialdata before 0.5 wrote it, which is what is published today."""
    from spatialdata._io.format import SpatialDataContainerFormatV01

    visium().write(tmp_path / "in" / "old.zarr", sdata_formats=SpatialDataContainerFormatV01())
    assert (tmp_path / "in" / "old.zarr" / ".zgroup").is_file()
    slide = read_one("spatialdata", tmp_path / "in", "old")
    assert np.array_equal(whole_image("old", slide.image), IMAGE)
    report = build(BuildConfig((SourceEntry("spatialdata", tmp_path / "in"),), slide_as_patient=True), tmp_path / "set")
    assert (report.failed, report.manifest.slides[0].spots) == ({}, 24)


def test_a_turned_and_shifted_image_is_met(tmp_path: Path) -> None:
    """Positions go through the affine map into the image's pixels: a spot finds its own colour again."""
    from spatialdata.models import Image2DModel
    from spatialdata.transformations import Affine

    store = visium(full=False)
    turned = np.rot90(IMAGE)  # pixel (x, y) of IMAGE lies at (y, width - x)
    width = IMAGE.shape[1]
    back = Affine([[0, -1, width], [1, 0, 0], [0, 0, 1]], input_axes=("x", "y"), output_axes=("x", "y"))
    store.images["run_full_image"] = Image2DModel.parse(
        turned.transpose(2, 0, 1).copy(), dims=("c", "y", "x"), transformations={"global": back}
    )
    store.write(tmp_path / "s.zarr")
    slide = read_one("spatialdata", tmp_path, "s")
    pixels = whole_image("s", slide.image)
    x, y = np.floor(slide.xy).astype(int).T
    home_x, home_y = np.floor(XY[:24]).astype(int).T
    assert np.array_equal(pixels[y, x], IMAGE[home_y, home_x - 1])  # x is whole: a border of pixels, now a lower one
    assert np.allclose(slide.xy, np.stack([XY[:24, 1], width - XY[:24, 0]], axis=1))
    assert slide.um_per_px == pytest.approx(2.0)


def test_a_stretched_image_and_a_store_without_image_are_refused(tmp_path: Path) -> None:
    from spatialdata.transformations import Scale, set_transformation

    store = visium()
    set_transformation(store.images["run_full_image"], Scale([0.5, 0.25], axes=("x", "y")), "global")
    store.write(tmp_path / "a.zarr")
    bare = visium()
    for name in list(bare.images):
        del bare.images[name]
    bare.write(tmp_path / "b.zarr")
    jobs = {job.name: job for job in find_source("spatialdata")(tmp_path, ReaderOptions()).jobs}
    with pytest.raises(SlideError, match="'run_full_image' is sheared or stretched"):
        jobs["a"].read()
    with pytest.raises(SlideError, match=r"no image shares a coordinate system with the shapes 'run'; images: \[\]"):
        jobs["b"].read()


def test_one_slide_a_region(tmp_path: Path) -> None:
    first, second = visium("one"), visium("two")
    store = spatialdata.concatenate([first, second], concatenate_tables=True)
    store.write(tmp_path / "pair.zarr")
    discovery = find_source("spatialdata")(tmp_path, ReaderOptions())
    assert [job.name for job in discovery.jobs] == ["pair_one", "pair_two"]
    slide = read_one("spatialdata", tmp_path / "pair.zarr", "pair_two")
    assert slide.image.member == "images/two_full_image"
    assert slide.barcodes[0] == "two00-1"
    assert len(slide) == 24


def test_tables_are_chosen_by_bins_or_by_name(tmp_path: Path) -> None:
    """Visium HD as spatialdata_io.visium_hd has it: a table a bin size, bins as squares."""
    import geopandas
    from shapely import box
    from spatialdata.models import ShapesModel
    from spatialdata.transformations import Identity

    tables, shapes = {}, {}
    for side in (8, 16):
        grid = [(column, row) for row in range(5) for column in range(6)]
        pixels = side / 0.5
        names = [f"s_{side:03d}um_{row:05d}_{column:05d}-1" for column, row in grid]
        squares = [box(c * pixels, r * pixels, (c + 1) * pixels, (r + 1) * pixels) for c, r in grid]
        frame = geopandas.GeoDataFrame(geometry=squares)
        region = f"colon_square_{side:03d}um"
        shapes[region] = ShapesModel.parse(frame, transformations={"global": Identity()})
        rows, columns = [row for _, row in grid], [column for column, _ in grid]
        tables[f"square_{side:03d}um"] = table_of(region, names, array_row=rows, array_col=columns)
    images = {
        "colon_full_image": image_of(1.0, {"global": Identity()}),
        "colon_cytassist_image": image_of(2.0, {"global": Identity()}),
    }
    spatialdata.SpatialData(images=images, shapes=shapes, tables=tables).write(tmp_path / "hd.zarr")
    slide = read_one("spatialdata", tmp_path, "hd")
    assert (slide.technology, slide.lattice, slide.pitch_um, slide.spot_px) == ("Visium HD", "square", 16, 32)
    assert slide.um_per_px == pytest.approx(0.5)
    assert slide.xy[0].tolist() == [16, 16]
    assert slide.image.member == "images/colon_full_image"
    assert read_one("spatialdata", tmp_path, "hd", ReaderOptions(table="square_008um")).pitch_um == 8
    with pytest.raises(ConfigError, match=r"wanted the table other; it has \['square_008um', 'square_016um'\]"):
        find_source("spatialdata")(tmp_path, ReaderOptions(table="other"))
    with pytest.raises(ConfigError, match=r"one of Visium HD's bins \(\*square_002um\); it has"):
        find_source("spatialdata")(tmp_path, ReaderOptions(bin_um=2))


def test_normalised_counts_and_missing_shapes_and_labels(tmp_path: Path) -> None:
    store = visium(mine=["x"] * 25)
    table = store.tables["table"]
    table.layers["counts"] = table.X.copy()
    table.X = np.log1p(table.X)
    store.shapes["run"] = store.shapes["run"].drop(index=3)
    store.write(tmp_path / "s.zarr")
    slide = read_one("spatialdata", tmp_path, "s", ReaderOptions(labels=("mine",)))
    assert list(slide.labels) == ["mine"]
    assert "run03-1" not in slide.barcodes
    assert slide.notes[:2] == (
        "counts from layers['counts']; X does not hold whole counts",
        "1 spots of the table have no shape and are left out",
    )
    with pytest.raises(SlideError, match="no label column 'no'"):
        find_source("spatialdata")(tmp_path, ReaderOptions(labels=("no",))).jobs[0].read()


def test_a_damaged_store_is_named_and_the_others_are_built(tmp_path: Path) -> None:
    visium().write(tmp_path / "in" / "a.zarr")
    (tmp_path / "in" / "b.zarr").mkdir()
    (tmp_path / "in" / "b.zarr" / "zarr.json").write_text("{")
    visium().write(tmp_path / "in" / "c.zarr")
    (tmp_path / "in" / "c.zarr" / "shapes" / "run" / "shapes.parquet").write_bytes(b"PAR1 cut")
    report = build(BuildConfig((SourceEntry("spatialdata", tmp_path / "in"),), slide_as_patient=True), tmp_path / "set")
    assert [slide.name for slide in report.manifest.slides] == ["a"]
    assert "b.zarr: wanted the table a single one" in report.failed["b"]
    assert "c.zarr cannot be read as SpatialData: " in report.failed["c"]


def test_what_is_no_store_and_a_missing_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import anndata

    with pytest.raises(ConfigError, match="holds no SpatialData store"):
        find_source("spatialdata")(tmp_path, ReaderOptions())
    anndata.AnnData(np.ones((2, 2))).write_zarr(tmp_path / "x.zarr")
    with pytest.raises(ConfigError, match=r"x: .*x\.zarr"):
        find_source("spatialdata")(tmp_path, ReaderOptions())
    monkeypatch.setitem(sys.modules, "spatialdata", None)
    with pytest.raises(ConfigError, match=r"pip install 'stalign-pl\[spatialdata\]'"):
        find_source("spatialdata")(tmp_path, ReaderOptions())
