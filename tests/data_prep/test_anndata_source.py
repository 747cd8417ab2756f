"""The AnnData reader, on files that the tests write."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from data_prep.slide import SlideError
from data_prep.sources import ReaderOptions, find_source
from tests.data_prep.test_sources import read_one
from tests.tiny_cohort import hex_grid, write_spatial


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
        table.uns["spatial"] = {"lib": {"images": {"lowres": picture}, "scalefactors": {"tissue_lowres_scalef": 0.25}}}
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


def test_a_file_of_several_slides_is_refused(tmp_path: Path) -> None:
    import h5py

    write_h5ad(tmp_path / "one.h5ad")
    with h5py.File(tmp_path / "one.h5ad", "r+") as file:
        file.copy("uns/spatial/lib", "uns/spatial/other")
    with pytest.raises(SlideError, match="holds 2 slides"):
        find_source("anndata")(tmp_path, ReaderOptions()).jobs[0].read()


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
