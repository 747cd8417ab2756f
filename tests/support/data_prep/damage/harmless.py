"""What looks odd and does no harm by design: the shard is the same as without it.

`message` is what the slide's notes must say of it, '' for nothing.
"""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
from PIL import Image

from tests.support.data_prep.damage.case import Case
from tests.support.data_prep.damage.cohorts import BAD
from tests.support.data_prep.damage.edits import Spoil, rows, table

POSITIONS = f"{BAD}/spatial/tissue_positions.csv"
COORD, COUNTS = f"Visium/coord/{BAD}_coord.csv", f"Visium/gene_exp/{BAD}_count.csv"


def crlf(*names: str) -> Spoil:
    def spoil(root: Path) -> None:
        for name in names:
            (root / name).write_bytes((root / name).read_bytes().replace(b"\n", b"\r\n"))

    return spoil


def bom(*names: str) -> Spoil:
    def spoil(root: Path) -> None:
        for name in names:
            (root / name).write_bytes(b"\xef\xbb\xbf" + (root / name).read_bytes())

    return spoil


def unpacked(*names: str) -> Spoil:
    """Plain content under a name that says gzip."""

    def spoil(root: Path) -> None:
        for name in names:
            (root / name).write_bytes(gzip.decompress((root / name).read_bytes()))

    return spoil


def repacked_crlf(name: str) -> Spoil:
    def spoil(root: Path) -> None:
        content = gzip.decompress((root / name).read_bytes()).replace(b"\n", b"\r\n")
        (root / name).write_bytes(gzip.compress(b"\xef\xbb\xbf" + content))

    return spoil


def gene_in_two_columns(root: Path) -> None:
    """A gene's counts in two columns of its name: they are added up again."""
    held = pd.read_csv(root / COUNTS, index_col=0)
    part = held["GENE3"] // 2
    rest = held["GENE3"] - part
    header = ",".join(["", *held.columns, "GENE3"])
    body = held.assign(GENE3=rest).assign(again=part).to_csv(header=False)
    (root / COUNTS).write_text(f"{header}\n{body}")


def shuffled_rows(name: str) -> Spoil:
    def spoil(root: Path) -> None:
        first, *others = (root / name).read_text().splitlines()
        order = np.random.default_rng(3).permutation(len(others))
        (root / name).write_text("\n".join([first, *(others[at] for at in order)]) + "\n")

    return spoil


def as_other_format(name: str, kind: str) -> Spoil:
    def spoil(root: Path) -> None:
        with Image.open(root / name) as image:
            payload = io.BytesIO()
            image.save(payload, kind)
        (root / name).write_bytes(payload.getvalue())

    return spoil


def as_float(held: anndata.AnnData) -> None:
    held.X = held.X.astype(np.float64).toarray()


CASES = [
    Case("space_ranger", "crlf", crlf(POSITIONS), ""),
    Case("space_ranger", "bom", bom(POSITIONS), ""),
    Case("space_ranger", "rows_in_another_order", shuffled_rows(POSITIONS), ""),
    Case(
        "space_ranger", "suffix_of_another_area", rows(POSITIONS, lambda c: [c[0][:-1] + "2", *c[1:]]), "without their"
    ),
    Case("space_ranger", "tiff_called_png", as_other_format(f"{BAD}/full_image.png", "TIFF"), ""),
    Case("space_ranger_1", "bom", bom(f"{BAD}/spatial/tissue_positions_list.csv"), "image: tissue_hires"),
    Case("space_ranger_1", "factors_bom", bom(f"{BAD}/spatial/scalefactors_json.json"), "image: tissue_hires"),
    Case("space_ranger_1", "barcodes_crlf", repacked_crlf(f"{BAD}/filtered_feature_bc_matrix/barcodes.tsv.gz"), ""),
    Case("space_ranger_1", "features_crlf", repacked_crlf(f"{BAD}/filtered_feature_bc_matrix/features.tsv.gz"), ""),
    Case(
        "geo",
        "no_gzip",
        unpacked(*(f"{BAD}_{name}.gz" for name in ("matrix.mtx", "tissue_positions_list.csv", "features.tsv"))),
        "",
    ),
    Case("stimage", "crlf", crlf(COORD, COUNTS, "meta/meta_all_gene02122025.csv"), ""),
    Case("stimage", "bom", bom(COORD, COUNTS, "meta/meta_all_gene02122025.csv"), ""),
    Case("stimage", "gene_in_two_columns", gene_in_two_columns, ""),
    Case("stimage", "rows_in_another_order", shuffled_rows(COORD), ""),
    Case("stimage", "tiff_called_png", as_other_format(f"Visium/image/{BAD}.png", "TIFF"), ""),
    Case("hest", "crlf", crlf("HEST_v1_1_0.csv", f"metadata/{BAD}.json"), ""),
    Case("hest", "bom", bom("HEST_v1_1_0.csv", f"metadata/{BAD}.json"), ""),
    Case("hest", "dense_float64", table(f"st/{BAD}.h5ad", as_float), ""),
    Case("anndata", "dense_float64", table(f"{BAD}.h5ad", as_float), ""),
    Case("legacy_st", "crlf", crlf(f"{BAD}_coordinates.tsv"), ""),
    Case("legacy_st", "bom", bom(f"{BAD}_coordinates.tsv"), ""),
    Case("legacy_st", "counts_crlf", repacked_crlf(f"{BAD}.tsv.gz"), ""),
    Case("legacy_st", "no_gzip", unpacked(f"{BAD}.tsv.gz"), ""),
    Case(
        "legacy_st",
        "sheet_crlf_and_bom",
        lambda root: (root / "slides.csv").write_bytes(f"\ufeffslide,tissue\r\n{BAD},brain\r\n".encode()),
        "",
    ),
    Case(
        "legacy_st",
        "config_bom",
        lambda root: None,
        "",
        yaml=b"\xef\xbb\xbfsources:\r\n- source: legacy_st\r\n  input: .\r\n",
    ),
]
