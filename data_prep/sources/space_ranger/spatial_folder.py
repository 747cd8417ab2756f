"""What Space Ranger's `spatial/` folder holds: positions, scale factors and the two tissue images."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from data_prep.gzipped import read_plain
from data_prep.slide.slide import ImageKind, SlideError, SlideImage
from data_prep.sources.reading import explain_damage

COLUMNS = {
    "barcode": "barcode",
    "in_tissue": "in_tissue",
    "array_row": "array_row",
    "array_col": "array_col",
    "pxl_row_in_fullres": "y",
    "pxl_col_in_fullres": "x",
}
"""Columns of the positions file, in order, and our names for them. Pixels: row (y) first, then column (x)."""

NUMBERS = {"in_tissue": int, "array_row": int, "array_col": int, "y": float, "x": float}


def read_positions(path: Path, slide_name: str) -> pd.DataFrame:
    """Read all spots of the array: index barcode; columns in_tissue, array_row, array_col, y, x (full-res px, float64).

    CSV with or without a header (told by the first cell: version 1 has none, and some files of its name have one),
    parquet (Visium HD), gzipped or not.

    Raises:
        SlideError: not these six columns, a value that is not a number, a repeated barcode, or a spot in tissue whose
            position is not finite.
    """
    with explain_damage(slide_name, path):
        content = read_plain(path)
        if not content.startswith(b"PAR1") and b"\0" in content:
            raise ValueError("it is no text in UTF-8: it holds zero bytes")
        if content.startswith(b"PAR1"):
            table = pd.read_parquet(io.BytesIO(content))
            table = table.reset_index() if table.index.name in COLUMNS else table
            header = True
        else:
            header = content[:200].decode("utf-8-sig").split(",")[0].strip().strip('"') == "barcode"
            table = pd.read_csv(
                io.BytesIO(content), header=0 if header else None, dtype={0: str, "barcode": str}, encoding="utf-8-sig"
            )
    if header:
        missing = [column for column in COLUMNS if column not in table.columns]
        if missing:
            raise SlideError(slide_name, f"{path} has no columns {missing}; it has {list(table.columns)}")
        table = table[list(COLUMNS)]
    elif table.shape[1] != len(COLUMNS):
        raise SlideError(slide_name, f"{path} has {table.shape[1]} columns; wanted: {', '.join(COLUMNS)}")
    table.columns = list(COLUMNS.values())
    table = table.set_index("barcode")
    try:
        table = table.astype(NUMBERS)
    except ValueError as error:
        raise SlideError(slide_name, f"{path}: {error}") from error
    if not table.index.is_unique:
        repeated = table.index[table.index.duplicated()][0]
        raise SlideError(slide_name, f"{path}: barcode {repeated!r} occurs more than once")
    bad = table[(table.in_tissue == 1) & ~np.isfinite(table[["x", "y"]]).all(axis=1)]
    if len(bad):
        raise SlideError(
            slide_name,
            f"{path}: {len(bad)} positions are not finite, such as that of {bad.index[0]!r}: "
            f"x {bad.x.iloc[0]}, y {bad.y.iloc[0]}. Is the file cut off?",
        )
    return table


@dataclass(frozen=True)
class ScaleFactors:
    """scalefactors_json.json, or the dictionary that scanpy makes of it.

    Attributes:
        slide_name: for messages.
        origin: where it stands, for messages.
        values: key -> whatever the file holds, a number if it is right.
    """

    slide_name: str
    origin: str
    values: Mapping[str, Any]

    def require(self, key: str) -> float:
        """Returns a factor.

        Raises:
            SlideError: absent, or not a number above 0.
        """
        value = self.values.get(key)
        try:
            number = float(value) if not isinstance(value, bool | str) and value is not None else float("nan")
        except TypeError:
            number = float("nan")
        if not np.isfinite(number) or number <= 0:
            raise SlideError(
                self.slide_name,
                f"{self.origin}: {key} is {value!r}; a number above 0 is wanted (keys: {sorted(self.values)})",
            )
        return number

    def optional(self, key: str) -> float | None:
        """Returns a factor, None where it is absent.

        Raises:
            SlideError: it is there, and no number above 0.
        """
        return self.require(key) if key in self.values else None


def read_scale_factors(path: Path, slide_name: str) -> ScaleFactors:
    """Read the file of scale factors.

    Raises:
        SlideError: not JSON, or not keys and values.
    """
    with explain_damage(slide_name, path):
        content = read_plain(path)
    try:
        values = json.loads(content)
    except ValueError as error:
        raise SlideError(slide_name, f"{path} is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise SlideError(slide_name, f"{path} holds {type(values).__name__}; keys and values are wanted")
    return ScaleFactors(slide_name, str(path), values)


def find_tissue_image(
    slide_name: str, hires: Path | None, lowres: Path | None, factors: ScaleFactors | None
) -> SlideImage | None:
    """Find the finer of the two tissue images with its scale; None where there is neither.

    The folder's JPEGs (detected_tissue_image, aligned_fiducials) are grey quality-control renderings, not the stain.

    Raises:
        SlideError: an image, but no scale of it.
    """
    choices: tuple[tuple[ImageKind, Path | None], ...] = (("hires", hires), ("lowres", lowres))
    for kind, path in choices:
        if path is None:
            continue
        if factors is None:
            raise SlideError(slide_name, f"scalefactors_json.json is missing, so the scale of {path} is unknown")
        return SlideImage(path, kind, factors.require(f"tissue_{kind}_scalef"))
    return None
