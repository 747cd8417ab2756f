"""The tables of a legacy ST section: counts, spots' positions, the pathologist's regions; in the forms they come in."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from data_prep.gzipped import open_plain
from data_prep.slide.genes import GeneNames, make_gene_names
from data_prep.slide.slide import SlideError
from data_prep.sources.reading import clean_labels, explain_damage

SPOT = re.compile(r"^X?(\d+)[x_](\d+)$")
"""A spot's name: 10x13, in some GEO tables 10_13; R puts an X before a column that starts with a digit."""

NUMBER = re.compile(r"^-?\d+(\.\d+)?([eE][+-]?\d+)?$")

UNDETERMINED = "undetermined"
"""The pathologist could not say: no region of its own, so the spot counts as unlabelled."""

HEADLESS = {
    4: ("x", "y", "pixel_x", "pixel_y"),
    6: ("x", "y", "new_x", "new_y", "pixel_x", "pixel_y"),
    7: ("x", "y", "new_x", "new_y", "pixel_x", "pixel_y", "selected"),
}
"""Number of columns -> their meaning in a spot file without header (the detector's and the ST pipeline's)."""


@dataclass(frozen=True)
class SectionCounts:
    """A section's counts.

    Attributes:
        spots: [N] str, `10x13`.
        genes: names of the G columns.
        values: [N, G] numbers.
    """

    spots: np.ndarray
    genes: GeneNames
    values: np.ndarray


@dataclass(frozen=True)
class _Head:
    """First line of a count table.

    Attributes:
        separator: tab or comma.
        names: its columns without the index's.
    """

    separator: str
    names: list[str]

    @property
    def transposed(self) -> bool:
        """Whether the columns are spots, so that rows are genes."""
        return bool(self.names) and all(SPOT.match(name) for name in self.names)


def undo_make_unique(columns: Sequence[str]) -> list[str]:
    """Undo R's make.unique: X.1 becomes X where X is a column too. A clone's name (FO538757.1) has no such base."""
    present = set(columns)
    names = []
    for column in columns:
        base, dot, suffix = column.rpartition(".")
        names.append(base if dot and suffix.isdigit() and base in present else column)
    return names


def read_section_genes(path: Path, slide_name: str) -> GeneNames:
    """Read the genes of a count table: its header, or, where genes are rows, its first column.

    Raises:
        SlideError: the file cannot be read.
    """
    head = _read_head(path, slide_name)
    names = head.names
    if head.transposed:
        with explain_damage(slide_name, path), open_plain(path) as file:
            first = pd.read_csv(file, sep=head.separator, header=None, skiprows=1, usecols=range(1), dtype=str)
        names = first[0].astype(str).tolist()
    return make_gene_names(undo_make_unique(names))


def read_counts(path: Path, slide_name: str) -> SectionCounts:
    """Read a table of spots x genes, or of genes x spots (told by a header of spots' names).

    Separated by tabs or commas; gzipped or not.

    Raises:
        SlideError: damaged, spots that are not named `<x>x<y>` or `<x>_<y>`, a repeated spot, no numbers.
    """
    head = _read_head(path, slide_name)
    with explain_damage(slide_name, path), open_plain(path) as file:
        table = pd.read_csv(file, sep=head.separator, header=None, skiprows=1, index_col=0)
    if table.shape[1] != len(head.names):
        raise SlideError(slide_name, f"{path}: the header names {len(head.names)} columns, rows have {table.shape[1]}")
    wrong = [name for name, kind in zip(head.names, table.dtypes, strict=True) if kind.kind not in "iuf"]
    if wrong:
        raise SlideError(slide_name, f"{path}: column {wrong[0]!r} does not hold numbers")
    rows, values = table.index.astype(str).tolist(), table.to_numpy()
    names, genes = (head.names, rows) if head.transposed else (rows, head.names)
    spots = np.array([_normalise_spot(name, slide_name, path) for name in names], dtype=object)
    unique, times = np.unique(spots.astype(str), return_counts=True)
    if (times > 1).any():
        raise SlideError(slide_name, f"{path}: spot {str(unique[times > 1][0])!r} occurs more than once")
    return SectionCounts(spots, make_gene_names(undo_make_unique(genes)), values.T if head.transposed else values)


def read_spots(path: Path, slide_name: str) -> pd.DataFrame:
    """Read the spots under tissue: index `<x>x<y>` as in the counts; columns x, y (on the array), pixel_x, pixel_y.

    Forms: x, y, pixel_x, pixel_y and perhaps selected, by header (her2st, ST-Net, STUtility); the spot's name with X
    and Y in pixels (He et al. 2020 as published); or no header (see HEADLESS).

    Raises:
        SlideError: another form, no number, or a repeated spot.
    """
    table = _read_table(path, slide_name)
    if not {"x", "y", "pixel_x", "pixel_y"} <= set(table.columns) and {"X", "Y"} <= set(table.columns):
        found = [match for name in table.iloc[:, 0] if (match := SPOT.match(str(name)))]
        if len(found) == len(table):
            places = {axis: [int(match[at]) for match in found] for at, axis in ((1, "x"), (2, "y"))}
            table = pd.DataFrame({**places, "pixel_x": table["X"], "pixel_y": table["Y"]})
    missing = [column for column in ("x", "y", "pixel_x", "pixel_y") if column not in table.columns]
    if missing:
        raise SlideError(slide_name, f"{path} has no columns {missing}; it has {list(table.columns)}")
    if "selected" in table.columns:
        table = table[table.selected == 1]
    with explain_damage(slide_name, path):
        pixels = table[["pixel_x", "pixel_y"]].astype(float)
    table = _index_by_spot(table.assign(pixel_x=pixels["pixel_x"], pixel_y=pixels["pixel_y"]), slide_name, path)
    bad = table[~np.isfinite(table[["pixel_x", "pixel_y"]]).all(axis=1)]
    if len(bad):
        raise SlideError(
            slide_name,
            f"{path}: {len(bad)} positions are not finite, such as that of {bad.index[0]!r}: pixel_x "
            f"{bad.pixel_x.iloc[0]}, pixel_y {bad.pixel_y.iloc[0]}. Is the file cut off?",
        )
    return table


def read_regions(path: Path, slide_name: str, spots: np.ndarray) -> dict[str, np.ndarray]:
    """Read the pathologist's regions, '' for a spot without. x and y are fitted array coordinates (9.02), so rounded.

    her2st: columns x, y, label. ST-Net's `_Coords.tsv`: spot, x, y, a number, the region (its code reads by place).

    Raises:
        SlideError: neither form, or a repeated spot.
    """
    table = _read_table(path, slide_name)
    name = "label"
    if not {"x", "y", "label"} <= set(table.columns):
        if table.shape[1] < 5:
            raise SlideError(
                slide_name,
                f"{path} has the columns {list(table.columns)}; wanted: x, y and label, or ST-Net's five",
            )
        name = str(table.columns[4])
        table = table.iloc[:, [1, 2, 4]].set_axis(["x", "y", "label"], axis=1)
    table = _index_by_spot(table.dropna(subset=["x", "y"]), slide_name, path)
    labels = clean_labels(table.label.reindex(spots))
    return {name: np.where(labels == UNDETERMINED, "", labels)}


def _normalise_spot(name: str, slide_name: str, path: Path) -> str:
    found = SPOT.match(name)
    if found is None:
        raise SlideError(slide_name, f"{path}: {name!r} is no spot; spots are named <x>x<y>, such as 10x13, or <x>_<y>")
    return f"{int(found[1])}x{int(found[2])}"


def _read_head(path: Path, slide_name: str) -> _Head:
    with explain_damage(slide_name, path), open_plain(path) as file:
        first, second = (file.readline().decode("utf-8-sig").rstrip("\r\n") for _ in range(2))
    separator = "\t" if "\t" in first else ","
    header, row = ([cell.strip('"') for cell in line.split(separator)] for line in (first, second))
    names = header if len(row) == len(header) + 1 else header[1:]  # R names no index column
    if not names or all(NUMBER.match(name) for name in names):
        raise SlideError(slide_name, f"{path} has no header of genes (or spots); it begins {first[:60]!r}")
    return _Head(separator, names)


def _read_table(path: Path, slide_name: str) -> pd.DataFrame:
    """Read a small table: separated by tabs, commas or blanks; a first line of numbers is no header."""
    with explain_damage(slide_name, path), open_plain(path) as file:
        line = file.readline().decode("utf-8-sig").strip("\r\n")
    separator = next((mark for mark in ("\t", ",") if mark in line), r"\s+")
    cells = re.split(separator, line.strip() if separator == r"\s+" else line)
    headless = all(NUMBER.match(cell) for cell in cells)
    if headless and len(cells) not in HEADLESS:
        raise SlideError(
            slide_name, f"{path} has no header and {len(cells)} columns; without header, one of {HEADLESS} is wanted"
        )
    with explain_damage(slide_name, path), open_plain(path) as file:
        if headless:
            return pd.read_csv(file, sep=separator, header=None, names=HEADLESS[len(cells)])
        table = pd.read_csv(file, sep=separator)
    return table if isinstance(table.index, pd.RangeIndex) else table.reset_index()  # R names no index column


def _index_by_spot(table: pd.DataFrame, slide_name: str, path: Path) -> pd.DataFrame:
    with explain_damage(slide_name, path):
        numbers = table[["x", "y"]].astype(float).round().astype(int)
    table = table.assign(x=numbers.x, y=numbers.y).set_index(numbers.x.astype(str) + "x" + numbers.y.astype(str))
    if not table.index.is_unique:
        raise SlideError(slide_name, f"{path}: spot {table.index[table.index.duplicated()][0]!r} occurs more than once")
    return table
