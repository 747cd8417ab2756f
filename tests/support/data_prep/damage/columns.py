"""Columns in another order, of other names, too few or too many, a transposed table, another separator."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from tests.support.data_prep.damage.case import Case
from tests.support.data_prep.damage.cohorts import BAD
from tests.support.data_prep.damage.edits import Spoil, dataset, hdf5, put, rows, table, text

POSITIONS = f"{BAD}/spatial/tissue_positions.csv"
V1 = f"{BAD}/spatial/tissue_positions_list.csv"
COORD, COUNTS = f"Visium/coord/{BAD}_coord.csv", f"Visium/gene_exp/{BAD}_count.csv"
PARQUET = f"{BAD}/binned_outputs/square_016um/spatial/tissue_positions.parquet"


def frame(name: str, change: Callable[[pd.DataFrame], pd.DataFrame], index: bool = True) -> Spoil:
    def spoil(root: Path) -> None:
        held = pd.read_csv(root / name, index_col=0 if index else None)
        change(held).to_csv(root / name, index=index)

    return spoil


def renamed_parquet(root: Path) -> None:
    held = pd.read_parquet(root / PARQUET)
    held.rename(columns={"pxl_row_in_fullres": "row"}).to_parquet(root / PARQUET)


def transposed_matrix(file: h5py.File) -> None:
    file["matrix/shape"][...] = file["matrix/shape"][()][::-1]


CASES = [
    Case(
        "space_ranger",
        "names",
        text(POSITIONS, lambda content: content.replace("pxl_row_in_fullres", "imagerow")),
        r"tissue_positions\.csv has no columns \['pxl_row_in_fullres'\]; it has",
    ),
    Case(
        "space_ranger",
        "separator",
        text(POSITIONS, lambda content: content.replace(",", ";")),
        r"tissue_positions\.csv",
    ),
    Case(
        "space_ranger",
        "tabs",
        text(POSITIONS, lambda content: content.replace(",", "\t")),
        r"tissue_positions\.csv has 1 columns; wanted: barcode, in_tissue",
    ),
    Case("space_ranger", "too_few", rows(POSITIONS, lambda cells: cells[:5]), r"tissue_positions\.csv"),
    Case("space_ranger", "cells_shifted", rows(POSITIONS, lambda cells: [*cells[1:], cells[0]]), "tissue_positions"),
    Case(
        "space_ranger",
        "matrix_transposed",
        hdf5(f"{BAD}/filtered_feature_bc_matrix.h5", transposed_matrix),
        r"_matrix\.h5: shape says 54 genes and 12 spots; there are 12 and 54",
    ),
    Case(
        "space_ranger_1",
        "one_less",
        rows(V1, lambda cells: cells[:5], header=False),
        r"tissue_positions_list\.csv has 5 columns; wanted: barcode",
    ),
    Case(
        "space_ranger_1",
        "index_column",
        rows(V1, lambda cells: ["7", *cells], header=False),
        r"tissue_positions_list\.csv has 7 columns; wanted: barcode",
    ),
    Case(
        "space_ranger_1",
        "pixels_before_places",
        rows(V1, lambda cells: [*cells[:2], *cells[4:], *cells[2:4]], header=False),
        "array_row . array_col is even for some spots and odd for others",
    ),
    Case(
        "space_ranger_1",
        "mtx_transposed",
        text(
            f"{BAD}/filtered_feature_bc_matrix/matrix.mtx.gz",
            lambda content: (
                "\n".join(
                    " ".join([line.split()[1], line.split()[0], *line.split()[2:]]) if line[:1].isdigit() else line
                    for line in content.splitlines()
                )
                + "\n"
            ),
        ),
        r"matrix\.mtx\.gz is 54 x 12, but features\.tsv\.gz has 12 features and barcodes\.tsv\.gz 54",
    ),
    Case(
        "geo",
        "features_by_comma",
        text(f"{BAD}_features.tsv.gz", lambda content: content.replace("\t", ",")),
        r"features\.tsv\.gz",
    ),
    Case("hd", "parquet_names", renamed_parquet, r"parquet has no columns \['pxl_row_in_fullres'\]"),
    Case(
        "stimage",
        "names",
        text(COORD, lambda content: content.replace("yaxis,xaxis", "y,x", 1)),
        r"_coord\.csv has no column 'yaxis'; wanted: the spot, yaxis, xaxis, r; it has: y, x, r",
    ),
    Case("stimage", "separator", text(COUNTS, lambda content: content.replace(",", "\t")), r"_count\.csv.*commas"),
    Case("stimage", "transposed", frame(COUNTS, lambda held: held.T), r"no spot of .*_count\.csv is in .*_coord\.csv"),
    Case("stimage", "spot_as_column", frame(COORD, lambda held: held[["r", "yaxis", "xaxis"]], index=False), "_coord"),
    Case("stimage", "ragged", text(COUNTS, lambda c: c.replace("\n", ",1\n", 9).replace(",1\n", "\n", 8)), "cells"),
    Case(
        "hest",
        "catalogue",
        text("HEST_v1_1_0.csv", lambda content: content.replace("st_technology", "technology")),
        "has no column 'st_technology'; wanted:",
        refused=True,
    ),
    Case(
        "hest",
        "positions_transposed",
        dataset(f"st/{BAD}.h5ad", "obsm/spatial", lambda values: np.ascontiguousarray(values.T)),
        r"GSE1_GSM1\.h5ad.*obsm.*spatial.* shape \(2, 54\)",
    ),
    Case("hest", "table_transposed", table(f"st/{BAD}.h5ad", lambda held: held.T.copy()), r"GSE1_GSM1\.h5ad"),
    Case(
        "anndata",
        "positions_of_one_axis",
        table(f"{BAD}.h5ad", lambda held: held.obsm.update(spatial=held.obsm["spatial"][:, :1])),
        r"obsm\['spatial'\] has shape \(54, 1\); \[spots, 2\]",
    ),
    Case(
        "anndata",
        "places_as_text",
        table(f"{BAD}.h5ad", lambda held: held.obs.__setitem__("array_row", ["up"] * 54)),
        r"GSE1_GSM1\.h5ad: array_col, array_row: .*'up'",
    ),
    Case(
        "legacy_st",
        "spots_by_other_names",
        text(f"{BAD}_coordinates.tsv", lambda content: content.replace("pixel_x\tpixel_y", "px\tpy")),
        r"_coordinates\.tsv has no columns \['pixel_x', 'pixel_y'\]",
    ),
    Case(
        "legacy_st",
        "headless",
        put(f"{BAD}_coordinates.tsv", b"1\t2\t3\t4\t5\n"),
        r"_coordinates\.tsv has no header and 5 columns",
    ),
    Case("legacy_st", "counts_by_blanks", text(f"{BAD}.tsv.gz", lambda content: content.replace("\t", " ")), "tsv.gz"),
    Case(
        "legacy_st",
        "sheet",
        put("slides.csv", f"slide;patient\n{BAD};P\n".encode()),
        r"slides\.csv: unknown columns \['slide;patient'\]; known columns: slide, patient",
        refused=True,
    ),
    Case(
        "legacy_st",
        "config_key",
        lambda root: None,
        r"unknown key 'folder'; known keys: source, input",
        refused=True,
        yaml="sources: [{source: legacy_st, folder: .}]\n",
    ),
]
