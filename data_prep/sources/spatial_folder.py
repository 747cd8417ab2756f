"""Space Ranger's `spatial/` folder: positions, scale factors and the two tissue images."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

from data_prep.slide import SlideError, SlideImage

COLUMNS = ("barcode", "in_tissue", "array_row", "array_col", "y", "x")
"""Columns of the positions file, with or without a header. Pixels: row (y) first, then column (x)."""

POSITION_FILES = ("tissue_positions.csv", "tissue_positions_list.csv")

TISSUE_IMAGES = (
    ("hires", "tissue_hires_image.png", "tissue_hires_scalef"),
    ("lowres", "tissue_lowres_image.png", "tissue_lowres_scalef"),
)


def positions_file(spatial: Path, slide_name: str) -> Path:
    """The folder's positions file (version 2 before version 1).

    Raises:
        SlideError: there is none.
    """
    for name in POSITION_FILES:
        if (spatial / name).is_file():
            return spatial / name
    raise SlideError(slide_name, f"{spatial} has no positions file; one of {', '.join(POSITION_FILES)} is wanted")


def read_positions(spatial: Path, slide_name: str) -> pd.DataFrame:
    """All spots of the array: index barcode; columns in_tissue, array_row, array_col, y, x (full-res px, float64).

    Whether there is a header is told by the first cell: version 1 has none, and some files of its name have one.

    Raises:
        SlideError: no file, not six columns, a value that is not a number, or a repeated barcode.
    """
    path = positions_file(spatial, slide_name)
    try:
        with open(path, encoding="utf-8") as file:
            header = file.readline().split(",")[0].strip().strip('"') == "barcode"
        table = pd.read_csv(path, header=0 if header else None, dtype=str)
    except ValueError as error:  # empty, no table, or not text
        raise SlideError(slide_name, f"{path} cannot be read: {error}") from error
    if table.shape[1] != len(COLUMNS):
        raise SlideError(slide_name, f"{path} has {table.shape[1]} columns; wanted: {', '.join(COLUMNS)}")
    table.columns = COLUMNS
    table = table.set_index("barcode")
    try:
        table = table.astype({"in_tissue": int, "array_row": int, "array_col": int, "y": float, "x": float})
    except ValueError as error:
        raise SlideError(slide_name, f"{path}: {error}") from error
    if not table.index.is_unique:
        repeated = table.index[table.index.duplicated()][0]
        raise SlideError(slide_name, f"{path}: barcode {repeated!r} occurs more than once")
    return table


def scale_factor(spatial: Path, slide_name: str, key: str) -> float:
    """One of scalefactors_json.json: image pixels per full-resolution pixel.

    Raises:
        SlideError: no file, not JSON, no such key, or a value that is not above zero.
    """
    path = spatial / "scalefactors_json.json"
    if not path.is_file():
        raise SlideError(slide_name, f"{path} is missing, so the scale of the tissue images is unknown")
    try:
        factors = json.loads(path.read_text())
    except ValueError as error:
        raise SlideError(slide_name, f"{path} is not JSON: {error}") from error
    if not isinstance(factors, dict):
        raise SlideError(slide_name, f"{path} holds {type(factors).__name__}; keys and values are wanted")
    value = factors.get(key)
    if not isinstance(value, int | float) or not np.isfinite(value) or value <= 0:
        raise SlideError(
            slide_name, f"{path}: {key} is {value!r}; a number above 0 is wanted (keys: {sorted(factors)})"
        )
    return float(value)


def tissue_image(spatial: Path, slide_name: str) -> SlideImage | None:
    """The finer of the two tissue images with its scale; None where the folder has neither.

    The folder's JPEGs (detected_tissue_image, aligned_fiducials) are grey quality-control renderings, not the stain.
    """
    for kind, name, key in TISSUE_IMAGES:
        if (spatial / name).is_file():
            return SlideImage(spatial / name, kind, scale_factor(spatial, slide_name, key))
    return None
