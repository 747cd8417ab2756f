"""The small tables of an STimage-1K4M slide: positions, and a pathologist's annotation."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data_prep.slide.slide import SlideError
from data_prep.sources.reading import clean_labels

if TYPE_CHECKING:
    import pandas as pd

COORDINATES = {"yaxis": "y", "xaxis": "x", "r": "r"}
"""Columns of a coordinate file, y before x, all pixels of the shipped image."""

LABEL_COLUMN, LABEL = "V2", "annotation"
"""The label column of the annotation files, and what it is called here."""

NO_REGION = ("undetermined", "Exclude")
"""The pathologist's words for a spot without a region."""


def strip_prefix(slide_name: str, spots: Iterable[str]) -> list[str]:
    """Returns barcodes without the slide's name: `<slide>_AAACAAG...-1` -> `AAACAAG...-1`."""
    return [str(spot).removeprefix(f"{slide_name}_") for spot in spots]


def read_coordinates(slide_name: str, path: Path) -> pd.DataFrame:
    """Read x, y (spot centres) and r (spot radius), in pixels of the shipped image; index: barcode without prefix.

    Raises:
        SlideError: no such file, a column missing, a value that is no finite number, a radius that is not above 0, or
            a spot named twice.
    """
    import pandas as pd

    table = _read_table(slide_name, path, ",")
    missing = [column for column in COORDINATES if column not in table.columns]
    if missing:
        raise SlideError(
            slide_name,
            f"{path} has no column {missing[0]!r}; wanted: the spot, {', '.join(COORDINATES)}; it has: "
            f"{', '.join(map(str, table.columns))}",
        )
    numbers = {}
    for column, name in COORDINATES.items():
        values = np.asarray(pd.to_numeric(table[column], errors="coerce"), dtype=np.float64)
        wrong = np.flatnonzero(~np.isfinite(values) | ((values <= 0) & (name == "r")))
        if len(wrong):
            raise SlideError(
                slide_name,
                f"{path}: {column} of spot {table.index[wrong[0]]!r} is {table[column].iloc[wrong[0]]!r}; a number"
                f"{' above 0' if name == 'r' else ''} is wanted",
            )
        numbers[name] = values
    return pd.DataFrame(numbers, index=table.index)


def read_annotation(slide_name: str, path: Path, barcodes: np.ndarray) -> dict[str, np.ndarray]:
    """Read the annotation, {"annotation": [N] str}.

    It is '' where the file has no row or no label, or the pathologist named no region.

    Raises:
        SlideError: no such file, no column V2, a spot named twice, or none of the slide's spots.
    """
    table = _read_table(slide_name, path, None)
    if LABEL_COLUMN not in table.columns:
        raise SlideError(
            slide_name,
            f"{path} has no column {LABEL_COLUMN!r}; it has: {', '.join(map(str, table.columns))}",
        )
    if not table.index.isin(barcodes).any():
        raise SlideError(
            slide_name, f"{path}: none of its spots is one of the slide's: {table.index[:1].tolist()} against "
            f"{barcodes[:1].tolist()}"
        )  # fmt: skip
    labels = clean_labels(table[LABEL_COLUMN].reindex(barcodes, fill_value=""))
    return {LABEL: np.where(np.isin(labels.astype(str), NO_REGION), "", labels)}


def _read_table(slide_name: str, path: Path, separator: str | None) -> pd.DataFrame:
    """Read a CSV as text, indexed by its first column without the slide's prefix.

    Args:
        slide_name: also the prefix.
        path: the file.
        separator: None for what its header has most of, commas, tabs or semicolons.
    """
    import pandas as pd

    try:
        if separator is None:
            with open(path, encoding="utf-8-sig") as file:
                header = file.readline()
            separator = max(",\t;", key=header.count)
        table = pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False, index_col=0, encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise SlideError(slide_name, f"{path} cannot be read: {error}") from error
    table.index = pd.Index(strip_prefix(slide_name, table.index), dtype=object)
    if not table.index.is_unique:
        repeated = table.index[table.index.duplicated()][0]
        raise SlideError(slide_name, f"{path}: spot {repeated!r} occurs more than once")
    return table
