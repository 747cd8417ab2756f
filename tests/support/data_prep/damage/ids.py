"""Barcodes, slides and genes that occur twice, or belong to something else."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import anndata
import numpy as np
import pandas as pd

from tests.support.data_prep.damage.case import Case
from tests.support.data_prep.damage.cohorts import BAD, GOOD
from tests.support.data_prep.damage.edits import both, dataset, put, rows, table, text
from tests.support.data_prep.damage.edits import store as edit_store

BINS = f"{BAD}/binned_outputs/square_016um"
H5, POSITIONS = f"{BAD}/filtered_feature_bc_matrix.h5", f"{BAD}/spatial/tissue_positions.csv"
COORD, COUNTS = f"Visium/coord/{BAD}_coord.csv", f"Visium/gene_exp/{BAD}_count.csv"


def twice(lines: str) -> str:
    """The last row once more."""
    return lines + lines.splitlines()[-1] + "\n"


def first_again(values: np.ndarray) -> np.ndarray:
    values[1] = values[0]
    return values


def foreign(values: np.ndarray) -> np.ndarray:
    return np.array([value.replace(b"A", b"N") + b"X" for value in values])


def numbered(values: np.ndarray) -> np.ndarray:
    """As `spaceranger aggr` numbers capture areas."""
    return np.array([value[:-1] + str(1 + at % 3).encode() for at, value in enumerate(values)])


def rename_spots(change: Callable[[list[str]], list[str]]) -> Callable[[anndata.AnnData], None]:
    def edit(held: anndata.AnnData) -> None:
        held.obs_names = change(list(held.obs_names))

    return edit


def mouse_ids(values: np.ndarray) -> np.ndarray:
    return np.array([value.replace(b"ENSG", b"ENSMUSG") for value in values])


def first_bin_smaller(root: Path) -> None:
    path = root / BINS / "spatial/tissue_positions.parquet"
    held = pd.read_parquet(path)
    held.loc[0, "barcode"] = held.barcode[0].replace("016", "008")
    held.to_parquet(path)


def second_image(root: Path) -> None:
    (root / f"{BAD}/scan_image.tif").write_bytes((root / f"{BAD}/full_image.png").read_bytes())


def second_prefix(root: Path) -> None:
    (root / f"{BAD}_filtered_matrix.mtx.gz").write_bytes((root / f"{BAD}_matrix.mtx.gz").read_bytes())


CASES = [
    Case(
        "space_ranger", "barcode_twice", dataset(H5, "matrix/barcodes", first_again), "1 barcodes occur more than once"
    ),
    Case("space_ranger", "position_twice", text(POSITIONS, twice), r"tissue_positions\.csv: barcode '.*' occurs more"),
    Case(
        "space_ranger",
        "foreign_barcodes",
        dataset(H5, "matrix/barcodes", foreign),
        r"no barcode of filtered_.*\.h5 is among the 54 spots of tissue_positions\.csv",
    ),
    Case(
        "space_ranger",
        "aggregated",
        dataset(H5, "matrix/barcodes", numbered),
        r"holds the spots of 3 capture areas \(barcodes end in -1, -2, -3\)",
    ),
    Case(
        "space_ranger",
        "one_place_twice",
        rows(POSITIONS, lambda cells: [*cells[:2], "0", "2", *cells[4:]] if cells[2:4] == ["0", "0"] else cells),
        "two spots stand at column 2, row 0 of the grid",
    ),
    Case(
        "space_ranger",
        "legacy_spots",
        both(
            dataset(H5, "matrix/barcodes", lambda values: np.array([f"{at}x7" for at in range(54)], dtype="S")),
            text(
                POSITIONS,
                lambda content: "\n".join(
                    ",".join([f"{at - 1}x7", *line.split(",")[1:]]) if at else line
                    for at, line in enumerate(content.splitlines())
                ),
            ),
        ),
        "'0x7' are of a legacy spatial transcriptomics array",
    ),
    Case(
        "space_ranger",
        "ids_of_mouse",
        both(
            put("slides.csv", f"slide,species\n{BAD},human\n".encode()),
            dataset(H5, "matrix/features/id", mouse_ids),
        ),
        r"12 of 12 gene ids are of mouse .*species.* 'human'",
    ),
    Case("space_ranger", "two_images", second_image, "several full-resolution images, keep one: .*full_.*scan_"),
    Case(
        "space_ranger_1",
        "barcode_twice",
        text(f"{BAD}/filtered_feature_bc_matrix/barcodes.tsv.gz", lambda c: c.splitlines()[1] + c[18:]),
        "barcodes occur more than once|barcodes.tsv.gz",
    ),
    Case("geo", "two_matrices", second_prefix, r"several mtx files|filtered_matrix\.mtx\.gz"),
    Case(
        "hd",
        "bins_of_two_sizes",
        both(
            dataset(
                f"{BINS}/filtered_feature_bc_matrix.h5",
                "matrix/barcodes",
                lambda values: np.array([values[0].replace(b"016", b"008"), *values[1:]]),
            ),
            first_bin_smaller,
        ),
        "holds bins of several sizes, such as 's_008um",
    ),
    Case("stimage", "count_twice", text(COUNTS, twice), r"_count\.csv: spot '.*' occurs more than once"),
    Case("stimage", "position_twice", text(COORD, twice), r"_coord\.csv: spot '.*' occurs more than once"),
    Case(
        "stimage",
        "foreign_spots",
        text(COUNTS, lambda content: content.replace(BAD, GOOD)),
        r"no spot of .*_count\.csv is in .*_coord\.csv: \['GSE2_GSM2_",
    ),
    Case(
        "stimage", "catalogue_twice", text("meta/meta_all_gene02122025.csv", twice), "repeats slide 'GSE2", refused=True
    ),
    Case(
        "hest", "barcode_twice", table(f"st/{BAD}.h5ad", rename_spots(lambda n: [n[1], *n[1:]])), "occur more than once"
    ),
    Case(
        "hest", "catalogue_twice", text("HEST_v1_1_0.csv", twice), r"HEST_v1_1_0\.csv: row 3 repeats id", refused=True
    ),
    Case(
        "anndata",
        "barcode_twice",
        table(f"{BAD}.h5ad", rename_spots(lambda n: [n[1], *n[1:]])),
        "occurs more than once",
    ),
    Case(
        "anndata",
        "two_slides",
        table(f"{BAD}.h5ad", lambda held: held.uns["spatial"].update(other=held.uns["spatial"]["lib"])),
        r"holds 2 slides \(lib, other\), and obs has no column 'library_id'",
    ),
    Case(
        "spatialdata",
        "foreign_instances",
        edit_store(f"{BAD}.zarr", lambda held: held.tables["table"].obs.__setitem__("spot_id", np.arange(54) + 500)),
        "no spot of region 'run' with a shape",
    ),
    Case(
        "spatialdata",
        "barcode_twice",
        edit_store(f"{BAD}.zarr", lambda held: rename_spots(lambda n: [n[1], *n[1:]])(held.tables["table"])),
        "occur more than once",
    ),
    Case("legacy_st", "spot_twice", text(f"{BAD}.tsv.gz", twice), r"\.tsv\.gz: spot '8x5' occurs more than once"),
    Case("legacy_st", "position_twice", text(f"{BAD}_coordinates.tsv", twice), r"_coordinates\.tsv: spot '8x5' occurs"),
    Case(
        "legacy_st",
        "barcodes_of_visium",
        lambda root: (root / f"{BAD}.tsv.gz").write_bytes(
            gzip.compress(b"\tGENE1\tGENE2\nAACC-1\t1\t2\nAACG-1\t1\t1\n")
        ),
        r"tsv\.gz: 'AACC-1' is no spot; spots are named <x>x<y>, such as",
    ),
    Case(
        "space_ranger",
        "sheet_twice",
        put("slides.csv", f"slide,patient\n{BAD},P\n{BAD},Q\n".encode()),
        r"slides\.csv: slide 'GSE1_GSM1' has more than one row",
        refused=True,
    ),
    Case(
        "space_ranger",
        "sheet_of_others",
        put("slides.csv", b"slide,patient\nanother,P\n"),
        r"slides\.csv: there is no slide 'another' in .*; it has: GSE1_GSM1, GSE2_GSM2",
        refused=True,
    ),
    Case(
        "space_ranger",
        "labels_of_others",
        both(put("slides.csv", f"slide,labels\n{BAD},l.csv\n".encode()), put("l.csv", b"barcode,region\nX-1,a\n")),
        r"l\.csv: none of its barcodes is one of the slide's",
    ),
    Case(
        "hest",
        "config_slides",
        lambda root: None,
        "slides: there is no slide 'TENX9' in",
        refused=True,
        yaml="sources: [{source: hest, input: ., slides: [TENX9]}]\n",
    ),
    Case(
        "anndata",
        "config_patients",
        lambda root: None,
        "patients: there is no slide 'other' in",
        refused=True,
        yaml="sources: [{source: anndata, input: ., patients: {other: P}}]\n",
    ),
    Case(
        "anndata",
        "config_twice",
        lambda root: None,
        "twice, so slide 'GSE1_GSM1' would be built twice",
        refused=True,
        yaml="sources: [{source: anndata, input: .}, {source: anndata, input: .}]\n",
    ),
]
