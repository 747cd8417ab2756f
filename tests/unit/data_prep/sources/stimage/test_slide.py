"""STimage-1K4M: the real catalogues, and slides in the layout of the download."""

from __future__ import annotations

import csv
import io
import pickle
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from data_prep.build.build import build
from data_prep.build.config import BuildConfig, SourceEntry
from data_prep.slide.slide import SlideError
from data_prep.sources import find_source
from data_prep.sources.job import Discovery, ReaderOptions
from data_prep.sources.stimage.slide import find_catalogue, read_catalogue
from stalign_pl.errors import ConfigError

VISIUM, LEGACY = "GSE100001_GSM2000001", "Human_Breast_Andersson_10142021_ST_A1"
COLUMNS = [
    "slide",
    "species",
    "tissue",
    "pmid",
    "title",
    "abstract",
    "keywords",
    "involve_cancer",
    "tech",
    "spot_num",
    "gene_num",
]


def read(folder: Path, catalogue: Path | None = None) -> Discovery:
    return find_source("stimage")(folder, ReaderOptions(catalogue=catalogue))


def write_catalogue(folder: Path, rows: dict[str, tuple[str, str]], name: str = "meta_all_gene02122025.csv") -> Path:
    """slide -> (technology, pmid); the abstract has commas and newlines, as real ones."""
    (folder / "meta").mkdir(parents=True, exist_ok=True)
    with open(folder / "meta" / name, "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for slide, (technology, pmid) in rows.items():
            about = {"title": "A, b", "abstract": 'Line\n"two", three', "keywords": "", "involve_cancer": "False"}
            facts = {"species": "human", "tissue": "Brain", "tech": technology, "spot_num": 64, "gene_num": 6}
            writer.writerow({"slide": slide, "pmid": pmid, **about, **facts})
    return folder / "meta" / name


@dataclass
class Section:
    """One slide as the download has it, to be changed before it is written."""

    name: str = VISIUM
    technology: str = "Visium"
    pitch: float = 60.0
    image_format: str = "JPEG"
    genes: tuple[str, ...] = ("TP53", "GAPDH", "TBCE", "TBCE", "ACTB", "MT-CO1")
    xy: np.ndarray = field(init=False)
    spots: list[str] = field(init=False)
    counts: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        column, row = (side.ravel() for side in np.meshgrid(np.arange(8), np.arange(8)))
        if self.technology == "Visium":
            self.xy = np.stack([column + row % 2 / 2, row * np.sqrt(3) / 2], 1) * self.pitch + [50, 90]
            self.spots = [f"{'ACGT'[i // 16]}{'ACGT'[i // 4 % 4]}{'ACGT'[i % 4]}GGG-1" for i in range(64)]
        else:
            jitter = np.random.default_rng(5).normal(0, 0.05, (64, 2))
            self.xy = (np.stack([column, row], 1) + jitter) * self.pitch + [50, 90]
            self.spots = [f"{a + 3}x{b + 11}" for a, b in zip(column, row, strict=True)]
        self.counts = np.random.default_rng(1).poisson(1.5, (64, len(self.genes)))

    def coordinates(self) -> pd.DataFrame:
        y, x = self.xy[:, 1], self.xy[:, 0]
        index = [f"{self.name}_{spot}" for spot in self.spots]
        return pd.DataFrame({"yaxis": y, "xaxis": x, "r": 0.3 * self.pitch}, index=index)

    def table(self) -> pd.DataFrame:
        return pd.DataFrame(self.counts, [f"{self.name}_{spot}" for spot in self.spots], list(self.genes))

    def path(self, folder: Path, part: str) -> Path:
        ending = {"coord": "_coord.csv", "gene_exp": "_count.csv", "image": ".png"}[part]
        path = folder / self.technology.replace(" ", "") / part / f"{self.name}{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def write(self, folder: Path) -> None:
        self.coordinates().to_csv(self.path(folder, "coord"))
        self.table().to_csv(self.path(folder, "gene_exp"))
        width, height = (self.xy.max(axis=0) + 60).astype(int)
        pixels = np.random.default_rng(2).integers(0, 255, (height, width, 3)).astype(np.uint8)
        payload = io.BytesIO()
        Image.fromarray(pixels).save(payload, self.image_format)
        self.path(folder, "image").write_bytes(payload.getvalue())


@pytest.fixture
def download(tmp_path: Path) -> Path:
    """One Visium and one legacy slide; the Visium slide is annotated."""
    visium, legacy = Section(), Section(LEGACY, "ST", pitch=110.0, image_format="TIFF")
    visium.write(tmp_path)
    legacy.write(tmp_path)
    labels = ["L1", "L2", "undetermined", "Exclude", ""] + ["L1"] * 58
    (tmp_path / "annotation").mkdir()
    pd.DataFrame({"V2": labels}, index=[f"{VISIUM}_{spot}" for spot in visium.spots[:-1]]).to_csv(
        tmp_path / "annotation" / f"{VISIUM}_anno.csv", sep="\t"
    )
    write_catalogue(tmp_path, {VISIUM: ("Visium", ""), LEGACY: ("ST", "34650042"), "GSE100001_GSM3": ("Visium", "")})
    return tmp_path


def test_the_real_catalogues_count_what_the_authors_published(real_data: Path) -> None:
    for name, slides, spots in (
        ("meta_all_gene02122025.csv", 531, 1_301_755),
        ("meta_all_gene.csv", 532, 1_304_560),
    ):
        rows = read_catalogue(real_data / "stimage1k4m" / name)
        human = [row for row in rows.values() if (row.species, row.technology) == ("human", "Visium")]
        assert (len(rows), len(human), sum(row.spots or 0 for row in human)) == (1149, slides, spots)
        assert {row.technology for row in rows.values()} == {"ST", "Visium", "Visium HD"}
        assert {row.patient for row in rows.values()} == {""}
        assert {row.licence for row in rows.values()} == {"MIT"}
    assert find_catalogue(real_data / "stimage1k4m").name == "meta_all_gene02122025.csv"


def test_no_study_of_the_real_catalogue_is_torn(real_data: Path) -> None:
    path = real_data / "stimage1k4m" / "meta_all_gene02122025.csv"
    rows = read_catalogue(path)
    maynard = [row for name, row in rows.items() if "_Maynard_" in name]
    assert len(maynard) == 12
    assert {row.study for row in maynard} == {"Maynard 02082021"}
    assert rows["GSE144239_GSM4284316"].study == "GSE144239"  # pmids 32579974,38037084
    assert {rows[name].study for name in rows if name.startswith(("GSE201610", "GSE223066"))} == {"GSE201610"}
    studies_of: dict[str, set[str]] = {}
    for raw in pd.read_csv(path, dtype=str, keep_default_na=False).to_dict("records"):
        for mark in (*re.findall(r"\d+", raw["pmid"]), *re.findall(r"^GSE\d+", raw["slide"])):
            studies_of.setdefault(mark, set()).add(rows[raw["slide"]].study)
    assert len(studies_of) > 100
    assert all(len(studies) == 1 for studies in studies_of.values())
    assert all(row.study for row in rows.values())


def test_linked_pmids_make_one_study_whatever_the_order(tmp_path: Path) -> None:
    rows = {"GSE9_GSM1": ("ST", "7"), "GSE10_GSM2": ("ST", "8,9"), "GSE30_GSM3": ("ST", "7; 8"), "x": ("ST", "")}
    for order in (list(rows), list(rows)[::-1]):
        found = read_catalogue(write_catalogue(tmp_path, {name: rows[name] for name in order}))
        assert {name: found[name].study for name in rows} == dict.fromkeys(rows, "GSE9") | {"x": "x"}


@pytest.mark.parametrize("image_format", ["JPEG", "TIFF", "PNG"])
def test_a_visium_slide_reads_as_it_was_written(tmp_path: Path, image_format: str) -> None:
    section = Section(image_format=image_format)
    section.write(tmp_path)
    write_catalogue(tmp_path, {VISIUM: ("Visium", "123")})
    slide = pickle.loads(pickle.dumps(read(tmp_path).jobs[0])).read()
    assert slide.barcodes.tolist() == section.spots
    assert np.array_equal(slide.counts.toarray(), section.counts)
    assert slide.counts.dtype == np.int32
    assert slide.gene_symbols.tolist() == list(section.genes)  # TBCE twice, for the gene table to join
    assert np.allclose(slide.xy, section.xy)  # x, y although the file has y, x
    assert (slide.lattice, slide.um_per_px, slide.spot_px) == ("hex", pytest.approx(100 / 60), pytest.approx(36))
    assert (slide.image.kind, slide.image.scale, slide.patient) == ("fullres", 1.0, "")
    assert (slide.species, slide.tissue, slide.technology, slide.study) == ("human", "brain", "Visium", "GSE100001")
    assert slide.notes == ()


def test_both_technologies_build(download: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    out = tmp_path_factory.mktemp("set") / "set"
    report = build(BuildConfig((SourceEntry("stimage", download),), slide_as_patient=True), out)
    assert report.failed == {}
    assert report.left_out == {"GSE100001_GSM3": "not downloaded: none of its files is in Visium/"}
    by_name = {slide.name: slide for slide in report.manifest.slides}
    visium, legacy = by_name[VISIUM], by_name[LEGACY]
    assert (visium.spots, visium.measured_genes, visium.lattice) == (64, 5, "hex")
    assert (legacy.spots, legacy.lattice, legacy.um_per_px) == (64, "square", pytest.approx(200 / 110, rel=0.05))
    table = anndata.read_h5ad(out / visium.h5ad)
    wanted = Section().table().T.groupby(level=0).sum().T  # duplicated columns are summed
    symbols = table.var.get("symbol", table.var_names)
    built = pd.DataFrame(table.X.toarray(), table.obs_names, list(symbols))
    assert np.array_equal(built[wanted.columns].to_numpy(), wanted.to_numpy())
    labels = table.obs["annotation"].astype(str).tolist()
    assert labels[:2] == ["L1", "L2"]
    assert labels[5] == "L1"
    assert visium.labels == {"annotation": 2}


def test_labels_that_are_none_are_empty(download: Path) -> None:
    slide = next(job for job in read(download).jobs if job.name == VISIUM).read()
    assert slide.labels["annotation"][:6].tolist() == ["L1", "L2", "", "", "", "L1"]
    assert slide.labels["annotation"][-1] == ""  # no row


def test_a_thumbnail_is_not_called_full_resolution(tmp_path: Path) -> None:
    Section(pitch=14.0).write(tmp_path)
    write_catalogue(tmp_path, {VISIUM: ("Visium", "")})
    slide = read(tmp_path).jobs[0].read()
    assert (slide.image.kind, slide.image.scale, slide.um_per_px) == ("shipped", 1.0, pytest.approx(100 / 14))


def test_rows_are_joined_by_spot_and_losses_told(tmp_path: Path) -> None:
    section = Section()
    section.write(tmp_path)
    write_catalogue(tmp_path, {VISIUM: ("Visium", "")})
    section.coordinates().iloc[:0:-1].to_csv(section.path(tmp_path, "coord"))  # reversed, without the first
    section.table().iloc[:-3].to_csv(section.path(tmp_path, "gene_exp"))
    slide = read(tmp_path).jobs[0].read()
    assert slide.barcodes.tolist() == section.spots[1:-3]
    assert np.array_equal(slide.counts.toarray(), section.counts[1:-3])
    assert np.allclose(slide.xy, section.xy[1:-3])
    assert slide.notes == (
        "1 of 61 spots with counts have no position",
        "3 of 63 spots with a position have no counts",
    )


def test_places_of_legacy_spots_come_from_their_names(tmp_path: Path) -> None:
    dense = Section("GSE144239_GSM1", "ST", pitch=110.0)
    kept = [i for i, spot in enumerate(dense.spots) if sum(map(int, spot.split("x"))) % 2 == 0]
    swapped = Section("GSE1_GSM2", "ST", pitch=110.0)
    swapped.spots = list(np.random.default_rng(0).permutation(swapped.spots))
    dense.write(tmp_path)
    dense.table().iloc[kept].to_csv(dense.path(tmp_path, "gene_exp"))
    swapped.write(tmp_path)
    write_catalogue(tmp_path, {"GSE144239_GSM1": ("ST", ""), "GSE1_GSM2": ("ST", "")})
    by_name = {job.name: job.read() for job in read(tmp_path).jobs}
    slide = by_name["GSE144239_GSM1"]
    assert (slide.pitch_um, slide.spot_um, slide.lattice) == (150.0, 110.0, "square")
    assert slide.pitch_px == pytest.approx(110 * np.sqrt(2), rel=0.05)  # along the diagonals
    assert (by_name["GSE1_GSM2"].lattice, by_name["GSE1_GSM2"].grid) == ("none", None)
    assert "contradict" in by_name["GSE1_GSM2"].notes[0]


def test_positions_on_no_array_are_kept_without_one(tmp_path: Path) -> None:
    section = Section()
    section.xy = np.random.default_rng(0).random((64, 2)) * 500
    section.write(tmp_path)
    write_catalogue(tmp_path, {VISIUM: ("Visium", "")})
    slide = read(tmp_path).jobs[0].read()
    assert (slide.lattice, slide.grid, slide.notes) == ("none", None, ("positions fit no hexagonal array",))


def test_what_is_left_out_has_its_reason(download: Path) -> None:
    others = {"GSE5_GSM6": "Visium", "Mouse_Brain_10X_03292024_VIsiumHD": "VisiumHD", "GSE7_GSM8": "Xenium"}
    technologies = {VISIUM: "Visium", LEGACY: "ST", **others}
    write_catalogue(download, {name: (technology, "") for name, technology in technologies.items()})
    (download / "Visium" / "coord" / "GSE5_GSM6_coord.csv").write_text("")
    (download / "ST" / "image" / "Mouse_X.png").write_text("")
    found = read(download)
    assert [job.name for job in found.jobs] == [VISIUM, LEGACY]
    assert found.left_out.keys() == {"GSE5_GSM6", "Mouse_Brain_10X_03292024_VIsiumHD", "GSE7_GSM8", "Mouse_X"}
    assert found.left_out["GSE5_GSM6"] == (
        "has no Visium/gene_exp/GSE5_GSM6_count.csv and no Visium/image/GSE5_GSM6.png"
    )
    assert "space_ranger" in found.left_out["Mouse_Brain_10X_03292024_VIsiumHD"]
    assert "does not list it; there is ST/image/Mouse_X.png" in found.left_out["Mouse_X"]
    assert found.catalogue.keys() == {*found.left_out, VISIUM, LEGACY} - {"Mouse_X"}


def test_the_newer_catalogue_is_taken_unless_another_is_named(download: Path, tmp_path: Path) -> None:
    other = write_catalogue(tmp_path / "elsewhere", {LEGACY: ("ST", "")})
    assert [job.name for job in read(download, other).jobs] == [LEGACY]
    write_catalogue(download, {}, "meta_all_gene.csv")
    assert find_catalogue(download).name == "meta_all_gene02122025.csv"
    (download / "meta" / "meta_all_gene02122025.csv").unlink()
    assert find_catalogue(download).name == "meta_all_gene.csv"
    (download / "meta" / "meta_all_gene.csv").unlink()
    with pytest.raises(ConfigError, match=r"meta/meta_all_gene02122025.csv or meta/meta_all_gene.csv"):
        read(download)
    with pytest.raises(ConfigError, match="label columns"):
        find_source("stimage")(download, ReaderOptions(labels=("V2",)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("tech,", "technology,", 1), "no column 'tech'"),
        (lambda text: text + text.splitlines(True)[-2] + text.splitlines(True)[-1], "repeats slide"),
        (lambda text: text.replace(",64,", ",many,", 1), "spot_num of .* is 'many'"),
        (lambda text: text.replace(",64,", ",6.5,", 1), "spot_num of .* is '6.5'"),
        (lambda text: text.replace("34650042", "PMC1", 1), "pmid of .* is 'PMC1'"),
        (lambda text: text + "a,b\n", "has not 11 cells"),
        (lambda text: text + '"never closed', "cannot be read"),
    ],
)
def test_a_damaged_catalogue_is_named(download: Path, change: Callable[[str], str], message: str) -> None:
    path = download / "meta" / "meta_all_gene02122025.csv"
    path.write_text(change(path.read_text()))
    with pytest.raises(ConfigError, match=f"meta_all_gene02122025.csv.*{message}"):
        read(download)


def recount(table: pd.DataFrame, value: object) -> pd.DataFrame:
    table = table.astype(object)
    table.iloc[3, 1] = value
    return table


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("gene_exp", lambda t: recount(t, 1.5), "gene 'GAPDH' of spot .*AATGGG-1' is '1.5'.*Raw counts"),
        ("gene_exp", lambda t: recount(t, -1), "gene 'GAPDH' of spot .* is '-1'"),
        ("gene_exp", lambda t: recount(t, "NA"), "gene 'GAPDH' of spot .* is 'NA'"),
        ("gene_exp", lambda t: recount(t, ""), "gene 'GAPDH' of spot .* is ''"),
        ("gene_exp", lambda t: recount(t, 2**24), "gene 'GAPDH' of spot .* is '16777216'"),
        ("gene_exp", lambda t: pd.concat([t, t.iloc[:1]]), "occurs more than once"),
        ("gene_exp", lambda t: t.iloc[:0], "no spot"),
        ("gene_exp", lambda t: t.iloc[:, :0], "a header of an empty cell and the genes"),
        ("gene_exp", lambda t: t.set_axis([f"other_{i}" for i in range(64)]), "no spot of .*_count.csv is in"),
        ("coord", lambda t: t.drop(columns="xaxis"), "no column 'xaxis'; wanted: the spot, yaxis, xaxis, r"),
        ("coord", lambda t: t.rename(columns={"r": "radius"}), "no column 'r'"),
        ("coord", lambda t: t.assign(yaxis="?"), "yaxis of spot .*AAAGGG-1' is '\\?'"),
        ("coord", lambda t: t.assign(r=0.0), "r of spot .* is '0.0'; a number above 0"),
        ("coord", lambda t: t.assign(xaxis=np.inf), "xaxis of spot .* is 'inf'"),
        ("coord", lambda t: pd.concat([t, t.iloc[:1]]), "occurs more than once"),
    ],
)
def test_a_damaged_table_is_named(
    tmp_path: Path, part: str, change: Callable[[pd.DataFrame], pd.DataFrame], message: str
) -> None:
    section = Section()
    section.write(tmp_path)
    write_catalogue(tmp_path, {VISIUM: ("Visium", "")})
    table = section.table() if part == "gene_exp" else section.coordinates()
    change(table).to_csv(section.path(tmp_path, part))
    job = read(tmp_path).jobs[0]
    with pytest.raises(SlideError, match=message) as caught:
        job.read()
    assert str(section.path(tmp_path, part)) in str(caught.value)
    assert VISIUM in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda payload: payload[: len(payload) // 2 + 1], "line .* cells, the header 7. Is the file cut off"),
        (lambda payload: payload.replace(b",", b";"), "separated by commas"),
        (lambda payload: b"", "separated by commas"),
        (lambda payload: b"\xff\xfe" + payload, "cannot be read"),
    ],
)
def test_a_damaged_count_file_is_named(tmp_path: Path, change: Callable[[bytes], bytes], message: str) -> None:
    section = Section()
    section.write(tmp_path)
    write_catalogue(tmp_path, {VISIUM: ("Visium", "")})
    path = section.path(tmp_path, "gene_exp")
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(SlideError, match=f"_count.csv.*{message}"):
        read(tmp_path).jobs[0].read()


def test_a_damaged_annotation_is_named(download: Path) -> None:
    path = download / "annotation" / f"{VISIUM}_anno.csv"
    job = read(download).jobs[0]
    good = path.read_text()
    for text, message in (
        (good.replace("V2", "V3"), "no column 'V2'; it has: V3"),
        (good.replace(f"{VISIUM}_", "other_"), "none of its spots"),
        (good + good.splitlines()[-1], "occurs more than once"),
        ("", "cannot be read"),
    ):
        path.write_text(text)
        with pytest.raises(SlideError, match=f"_anno.csv.*{message}"):
            job.read()


def test_a_real_section_is_the_same_slide_in_both_layouts(real_data: Path, tmp_path: Path) -> None:
    original = next(
        job for job in find_source("legacy_st")(real_data / "her2st", ReaderOptions()).jobs if job.name == "C4"
    )
    legacy, name = original.read(), "Human_Breast_Andersson_10142021_ST_C4"
    index = [f"{name}_{barcode}" for barcode in legacy.barcodes]
    for part in ("coord", "gene_exp", "image"):
        (tmp_path / "ST" / part).mkdir(parents=True)
    y, x = legacy.xy[:, 1], legacy.xy[:, 0]
    pd.DataFrame({"yaxis": y, "xaxis": x, "r": 72.5}, index).to_csv(tmp_path / "ST" / "coord" / f"{name}_coord.csv")
    pd.DataFrame(legacy.counts.toarray(), index, legacy.gene_symbols).to_csv(
        tmp_path / "ST" / "gene_exp" / f"{name}_count.csv"
    )
    (tmp_path / "ST" / "image" / f"{name}.png").symlink_to(legacy.image.path)  # a JPEG
    catalogue = real_data / "stimage1k4m" / "meta_all_gene02122025.csv"
    found = read(tmp_path, catalogue)
    assert (len(found.jobs), len(found.left_out), len(found.catalogue)) == (1, 1148, 1149)
    slide = found.jobs[0].read()
    assert np.array_equal(slide.counts.toarray(), legacy.counts.toarray())
    assert np.allclose(slide.xy, legacy.xy)
    assert (slide.lattice, slide.um_per_px, slide.image.kind) == ("square", legacy.um_per_px, "fullres")
    assert slide.grid is not None
    assert np.array_equal(slide.grid, legacy.grid)
    assert (slide.study, slide.species, slide.tissue) == ("Andersson 10142021", "human", "breast")
    both = (
        SourceEntry("legacy_st", real_data / "her2st", slides=("C4",)),
        SourceEntry("stimage", tmp_path, slides=(name,), options=ReaderOptions(catalogue=catalogue)),
    )
    report = build(BuildConfig(both), tmp_path / "set")
    assert [record.name for record in report.manifest.slides] == ["C4"]
    assert report.left_out == {name: "has 100% of its counts in common with 'C4', which stands for both"}
