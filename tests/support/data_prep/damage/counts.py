"""Values that are no counts: NaN, negative, fractional, infinite, too large, text."""

from __future__ import annotations

from collections.abc import Callable

import anndata
import numpy as np

from tests.support.data_prep.damage.case import Case
from tests.support.data_prep.damage.cohorts import BAD
from tests.support.data_prep.damage.edits import Spoil, dataset, table, text
from tests.support.data_prep.damage.edits import store as edit_store

H5, H5AD = f"{BAD}/filtered_feature_bc_matrix.h5", f"{BAD}.h5ad"
MTX = f"{BAD}/filtered_feature_bc_matrix/matrix.mtx.gz"
STIMAGE, LEGACY = f"Visium/gene_exp/{BAD}_count.csv", f"{BAD}.tsv.gz"
WRONG = {"nan": np.nan, "negative": -1.0, "fraction": 0.5, "infinite": np.inf, "too_large": 2.0**24}


def first(value: float) -> Callable[[np.ndarray], np.ndarray]:
    """The first stored value becomes another."""

    def change(values: np.ndarray) -> np.ndarray:
        values = values.astype(np.float64)
        values.flat[0] = value
        return values

    return change


def entry(value: str) -> Spoil:
    """The last entry of a MatrixMarket file."""

    def change(content: str) -> str:
        *others, last = content.replace(" integer ", " real ").splitlines()
        return "\n".join([*others, " ".join([*last.split()[:2], value])]) + "\n"

    return text(MTX, change)


def cell(name: str, separator: str, value: str) -> Spoil:
    """The first gene of the second spot."""

    def change(content: str) -> str:
        lines = content.splitlines()
        cells = lines[2].split(separator)
        lines[2] = separator.join([cells[0], value, *cells[2:]])
        return "\n".join(lines) + "\n"

    return text(name, change)


def log_values(held: anndata.AnnData) -> None:
    held.X = np.log1p(held.X.toarray())


CASES = [
    *(
        Case(
            "space_ranger", kind, dataset(H5, "matrix/data", first(value)), rf"_matrix\.h5: 1 values are not .* {value}"
        )
        for kind, value in WRONG.items()
    ),
    Case(
        "space_ranger",
        "text",
        dataset(H5, "matrix/data", lambda values: np.array([str(value) for value in values], dtype="S")),
        r"_matrix\.h5",
    ),
    Case(
        "space_ranger",
        "int64_beyond_32_bits",
        dataset(H5, "matrix/data", lambda values: np.where(np.arange(len(values)) == 0, np.int64(2**32 + 1), values)),
        r"_matrix\.h5: 1 values are not counts; the first is 4294967297",
    ),
    *(
        Case("space_ranger_1", kind, entry(value), rf"matrix\.mtx\.gz: 1 values are not counts; the first is {said}")
        for kind, value, said in (
            ("nan", "nan", "nan"),
            ("negative", "-3", "-3"),
            ("fraction", "1.5", r"1\.5"),
            ("too_large", "16777216", "16777216"),
        )
    ),
    Case("space_ranger_1", "text", entry("many"), r"matrix\.mtx\.gz cannot be read: "),
    Case("space_ranger_1", "beyond_64_bits", entry("1e400"), r"matrix\.mtx\.gz"),
    *(
        Case("stimage", kind, cell(STIMAGE, ",", value), rf"_count\.csv: gene 'GENE1' of spot '.*' is '{value}'")
        for kind, value in (
            ("nan", "nan"),
            ("negative", "-1"),
            ("fraction", "0.5"),
            ("infinite", "inf"),
            ("too_large", "16777216"),
            ("text", "many"),
            ("empty", ""),
            ("hex", "0x1F"),
            ("underscores", "1_0"),
        )
    ),
    *(
        Case(
            "hest", kind, dataset(f"st/{H5AD}", "X/data", first(value)), rf"h5ad: X: 1 values are not counts.* {value}"
        )
        for kind, value in WRONG.items()
    ),
    *(
        Case("anndata", kind, dataset(H5AD, "X/data", first(value)), rf"GSE1_GSM1\.h5ad.* {value:.12g}")
        for kind, value in WRONG.items()
    ),
    Case("anndata", "log", table(H5AD, log_values), r"no raw counts; .*X holds 1\.\d+, layers\['counts'\] is absent"),
    Case(
        "anndata",
        "text",
        dataset(H5AD, "X/data", lambda values: np.array([str(value) for value in values], dtype="S")),
        r"GSE1_GSM1\.h5ad",
    ),
    Case(
        "spatialdata",
        "log",
        edit_store(f"{BAD}.zarr", lambda held: log_values(held.tables["table"])),
        r"table 'table': no raw counts; .*X holds 1\.\d+",
    ),
    *(
        Case("legacy_st", kind, cell(LEGACY, "\t", value), rf"GSE1_GSM1\.tsv\.gz: .*{said}")
        for kind, value, said in (
            ("nan", "", "1 values are not counts; the first is nan"),
            ("negative", "-1", "the first is -1"),
            ("fraction", "0.5", r"the first is 0\.5"),
            ("infinite", "inf", "the first is inf"),
            ("too_large", "16777216", "the first is 16777216"),
            ("text", "many", "column 'GENE1' does not hold"),
            ("beyond_64_bits", "99999999999999999999", "GENE1|9999"),
        )
    ),
]
