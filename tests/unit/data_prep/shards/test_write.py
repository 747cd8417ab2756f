"""What is in a shard, read back by other means than it was written by."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
import time
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_prep.build.build import build
from data_prep.build.config import BuildConfig, SourceEntry
from data_prep.shards.settings import BuildSettings
from data_prep.shards.tars import draw_order
from data_prep.sources import ReaderOptions, find_source
from stalign_pl.shard_format import INDEX, INDEX_COLUMN, MEMBERS, GeneTable, Manifest, make_file_stem


def samples_of(folder: Path, tar: str) -> list[dict]:
    import webdataset

    return list(webdataset.WebDataset(str(folder / tar), shardshuffle=False))


def test_tiny_set_is_complete(tiny_shards: Path) -> None:
    manifest = Manifest.read(tiny_shards)
    assert [slide.name for slide in manifest.slides] == ["tiny_1", "tiny_2", "tiny_3"]
    assert [slide.patient for slide in manifest.slides] == ["P1", "P2", "P3"]
    assert all(slide.spots == 64 and slide.labels == {"domain": 3} for slide in manifest.slides)
    assert all(slide.um_per_px == pytest.approx(2.0) and slide.image == "fullres" for slide in manifest.slides)
    assert GeneTable.read(tiny_shards / "genes.tsv").digest() == manifest.gene_table


def test_plain_webdataset_counts_every_spot(tiny_shards: Path) -> None:
    for record in Manifest.read(tiny_shards).slides:
        samples = samples_of(tiny_shards, record.tars[0])
        metas = [json.loads(sample["meta.json"]) for sample in samples]
        assert sorted(meta["spot"] for meta in metas) == list(range(record.spots))
        assert {meta["slide"] for meta in metas} == {record.name}
        assert len({sample["__key__"] for sample in samples}) == record.spots
        for sample in samples:
            assert {"spot.png", "niche.jpg", "genes.npy", "neighbors.npy", "meta.json"} <= sample.keys()


def test_samples_hold_the_slide(tiny_cohort: Path, tiny_shards: Path) -> None:
    record = Manifest.read(tiny_shards).slides[1]
    slide = find_source("space_ranger")(tiny_cohort, ReaderOptions()).jobs[1].read()
    table = GeneTable.read(tiny_shards / "genes.tsv")
    image = np.asarray(Image.open(tiny_cohort / "tiny_2" / "full_image.png"))
    dense = slide.counts.toarray()
    assert (record.spot_px, record.niche_px) == (28, 150)
    for sample in samples_of(tiny_shards, record.tars[0]):
        meta = json.loads(sample["meta.json"])
        spot = meta["spot"]
        assert meta["barcode"] == slide.barcodes[spot]
        assert meta["xy"] == slide.xy[spot].tolist()
        genes, counts = np.load(io.BytesIO(sample["genes.npy"]))
        assert genes.dtype == np.uint16
        found = {table.symbols[gene]: int(count) for gene, count in zip(genes, counts, strict=True)}
        columns = np.flatnonzero(dense[spot])
        assert found == {slide.gene_symbols[column]: int(dense[spot, column]) for column in columns}
        x, y = (int(np.floor(value - 14 + 0.5)) for value in slide.xy[spot])
        patch = np.asarray(Image.open(io.BytesIO(sample["spot.png"])))
        assert np.array_equal(patch, image[y : y + 28, x : x + 28])
        neighbors = np.load(io.BytesIO(sample["neighbors.npy"]))
        near = np.linalg.norm(slide.xy - slide.xy[spot], axis=1) / 50
        assert set(neighbors[: meta["rings"][0]]) == set(np.flatnonzero((near > 0) & (near < 1.05)))
        assert len(meta["boxes"]) == min(18, len(neighbors)) + 1
        niche = np.asarray(Image.open(io.BytesIO(sample["niche.jpg"]))).astype(int)
        x0, y0, x1, y1 = (round(value) for value in meta["boxes"][0])
        assert abs(niche[y0:y1, x0:x1].mean() - patch.mean()) < 4  # the spot lies in its niche where the box says
        x, y = (int(np.floor(value - 75 + 0.5)) for value in slide.xy[spot])
        inside = np.clip([x + 150, y + 150], 0, image.shape[1::-1]) - np.clip([x, y], 0, None)
        assert meta["outside"] == pytest.approx(1 - inside.prod() / 150**2, abs=1e-4)


def test_index_finds_every_payload(tiny_shards: Path) -> None:
    for record in Manifest.read(tiny_shards).slides:
        index = np.load(tiny_shards / record.index, mmap_mode="r")
        pairs = np.load(tiny_shards / record.counts, mmap_mode="r")
        assert index.shape == (record.spots, len(INDEX))
        whole = (tiny_shards / record.tars[0]).read_bytes()
        samples = {
            json.loads(sample["meta.json"])["spot"]: sample for sample in samples_of(tiny_shards, record.tars[0])
        }
        order = list(samples)
        assert order == draw_order(record.spots, 0, record.name).tolist()
        assert order != sorted(order)
        for spot, sample in samples.items():
            row = {name: int(index[spot, column]) for name, column in INDEX_COLUMN.items()}
            cut = {m: whole[row[f"{m}_offset"] : row[f"{m}_offset"] + row[f"{m}_length"]] for m in MEMBERS}
            names = ("spot.png", "niche.jpg", "genes.npy", "neighbors.npy", "meta.json")
            assert [cut[member] for member in MEMBERS] == [sample[name] for name in names]
            assert row["crc32"] == zlib.crc32(b"".join(cut[member] for member in MEMBERS))
            assert row["rank"] == order.index(spot)
            stored = np.load(io.BytesIO(sample["genes.npy"]))
            assert np.array_equal(pairs[:, row["counts_start"] : row["counts_stop"]], stored)


def test_scanpy_opens_the_h5ad(tiny_cohort: Path, tiny_shards: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import scanpy

    table = scanpy.read_h5ad(tiny_shards / "tiny_1.h5ad")
    slide = find_source("space_ranger")(tiny_cohort, ReaderOptions()).jobs[0].read()
    assert np.array_equal(table.X.toarray(), slide.counts.toarray())
    assert np.allclose(table.obsm["spatial"], slide.xy)
    assert table.obs["domain"].cat.categories.tolist() == ["belt", "core", "rim"]
    assert table.var_names[0] == "GENE1"
    assert table.var["ensembl_id"].iloc[0] == "ENSG00000000001"
    graph = table.obsp["spatial_connectivities"]
    assert (graph != graph.T).nnz == 0
    assert graph.sum(axis=1).max() == 6
    picture = table.uns["spatial"]["tiny_1"]
    assert picture["images"]["lowres"].dtype == np.uint8
    assert picture["scalefactors"]["spot_diameter_fullres"] == pytest.approx(27.5)
    assert table.uns["stalign_source"]["species"] == "human"
    axes = scanpy.pl.spatial(table, color="domain", show=False)
    assert len(axes) == 1


def listing(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


def test_a_rebuild_is_the_same_byte_for_byte(tiny_cohort: Path, tiny_shards: Path, tmp_path: Path) -> None:
    time.sleep(1.1)  # a time stamp in a file would differ
    config = BuildConfig((SourceEntry("space_ranger", tiny_cohort),))
    for workers in (1, 2):
        build(config, tmp_path / str(workers), workers=workers)
        assert listing(tmp_path / str(workers)) == listing(tiny_shards)


def test_a_stopped_build_goes_on(tiny_cohort: Path, tiny_shards: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(tiny_shards, tmp_path / "set"))
    config = BuildConfig((SourceEntry("space_ranger", tiny_cohort),))
    (out / "tiny_1.json").unlink()
    (out / "tiny_3.tar").write_bytes((out / "tiny_3.tar").read_bytes()[:-512])
    (out / "manifest.json").unlink()
    kept = (out / "tiny_2.tar").stat().st_mtime_ns
    report = build(config, out)
    assert report.reused == ("tiny_2",)
    assert (out / "tiny_2.tar").stat().st_mtime_ns == kept
    assert listing(out) == listing(tiny_shards)
    assert build(config, out).reused == ("tiny_1", "tiny_2", "tiny_3")


def test_a_slide_whose_input_is_newer_is_built_again(tiny_cohort: Path, tmp_path: Path) -> None:
    cohort = Path(shutil.copytree(tiny_cohort, tmp_path / "cohort"))
    config = BuildConfig((SourceEntry("space_ranger", cohort, slides=("tiny_1", "tiny_2")),))
    build(config, tmp_path / "set")
    labels = cohort / "tiny_2" / "labels.csv"
    labels.write_text(labels.read_text().replace("rim", "belt"))
    report = build(config, tmp_path / "set")
    assert report.reused == ("tiny_1",)
    assert report.manifest.slides[1].labels == {"domain": 2}


def test_names_with_dots_and_spaces(tiny_cohort: Path, tmp_path: Path) -> None:
    name = "GSE1.2 slide (a) é"
    shutil.copytree(tiny_cohort / "tiny_1", tmp_path / "in" / name)
    out = tmp_path / "set"
    report = build(BuildConfig((SourceEntry("space_ranger", tmp_path / "in"),), slide_as_patient=True), out)
    (record,) = report.manifest.slides
    assert (record.name, record.patient, record.stem) == (name, name, make_file_stem(name))
    samples = samples_of(out, record.tars[0])
    assert len(samples) == 64
    assert json.loads(samples[0]["meta.json"])["slide"] == name
    import anndata

    assert set(anndata.read_h5ad(out / record.h5ad).obs["slide"]) == {name}


def test_large_slides_are_cut_into_parts(tiny_cohort: Path, tiny_shards: Path, tmp_path: Path) -> None:
    entry = SourceEntry("space_ranger", tiny_cohort, slides=("tiny_1",))
    (record,) = build(BuildConfig((entry,), BuildSettings(part_spots=30)), tmp_path / "set").manifest.slides
    assert record.tars == ("tiny_1-part000.tar", "tiny_1-part001.tar", "tiny_1-part002.tar")
    parts = [samples_of(tmp_path / "set", name) for name in record.tars]
    assert [len(part) for part in parts] == [30, 30, 4]
    whole = samples_of(tiny_shards, "tiny_1.tar")
    assert [sample["meta.json"] for part in parts for sample in part] == [sample["meta.json"] for sample in whole]


def test_legacy_sections_measured_what_any_of_their_study_did(tmp_path: Path) -> None:
    import gzip

    for name, genes in (("M1", ("A", "B")), ("M2", ("B", "C"))):
        with gzip.open(tmp_path / f"{name}.tsv.gz", "wt") as file:
            file.write("\t" + "\t".join(genes) + "\n" + "".join(f"{x}x1\t{x}\t7\n" for x in (1, 2, 3)))
        rows = "".join(f"{x}\t1\t{x * 60}\t60\n" for x in (1, 2, 3))
        (tmp_path / f"alignment_table_{name}.tsv").write_text("x\ty\tpixel_x\tpixel_y\n" + rows)
        pixels = np.random.default_rng(0).integers(60, 200, (120, 240, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{name}.jpg")
    report = build(BuildConfig((SourceEntry("legacy_st", tmp_path),), slide_as_patient=True), tmp_path / "set")
    first, second = report.manifest.slides
    assert first.panel == second.panel
    assert np.load(tmp_path / "set" / first.panel).tolist() == [0, 1, 2]
    import anndata

    table = anndata.read_h5ad(tmp_path / "set" / "M2.h5ad")
    assert table.var_names.tolist() == ["A", "B", "C"]
    assert table.X.toarray().tolist() == [[0, 1, 7], [0, 2, 7], [0, 3, 7]]


def test_large_counts_widen_the_pairs(tiny_cohort: Path, tmp_path: Path) -> None:
    import h5py

    shutil.copytree(tiny_cohort / "tiny_1", tmp_path / "in" / "tiny_1")
    with h5py.File(tmp_path / "in/tiny_1/filtered_feature_bc_matrix.h5", "r+") as file:
        file["matrix/data"][0] = 70_000
    build(BuildConfig((SourceEntry("space_ranger", tmp_path / "in"),), slide_as_patient=True), tmp_path / "set")
    pairs = np.load(tmp_path / "set" / "tiny_1.counts.npy")
    assert (pairs.dtype, pairs.max()) == (np.uint32, 70_000)
    assert np.load(io.BytesIO(samples_of(tmp_path / "set", "tiny_1.tar")[0]["genes.npy"])).dtype == np.uint32


def test_crop_settings_of_an_entry_stand_above_the_builds(tiny_cohort: Path, tmp_path: Path) -> None:
    entry = SourceEntry("space_ranger", tiny_cohort, slides=("tiny_1",), spot_scale=2.0)
    config = BuildConfig((entry,), BuildSettings(niche_pitches=4.0))
    (record,) = build(config, tmp_path / "set").manifest.slides
    assert (record.spot_um, record.niche_um, record.spot_px, record.niche_px) == (110, 400, 55, 200)
    other = replace(entry, spot_scale=None, niche_pitches=2.0)
    (record,) = build(replace(config, sources=(other,)), tmp_path / "other").manifest.slides
    assert (record.spot_um, record.niche_um) == (55, 200)


def test_building_imports_no_torch() -> None:
    code = (
        "import sys, data_prep.build.build, data_prep.check.check, data_prep.cli.build; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
