"""slides.csv: what the user knows of the slides and the files do not say. It overrides the reader."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import pandas as pd

from data_prep.slide.catalogue import CatalogueRow
from data_prep.slide.slide import Slide, SlideError
from data_prep.sources.reading import clean_labels
from stalign_pl.errors import ConfigError

SHEET = "slides.csv"


@dataclass(frozen=True)
class SlideFacts:
    """Overrides of a slide's fields; None keeps the reader's.

    Attributes:
        patient: see Slide, as are those up to `licence`.
        labels: a CSV of barcode plus label columns.
    """

    patient: str | None = None
    study: str | None = None
    species: str | None = None
    tissue: str | None = None
    technology: str | None = None
    licence: str | None = None
    labels: Path | None = None

    def over(self, weaker: SlideFacts) -> SlideFacts:
        """Returns these facts, and `weaker`'s where these say nothing."""
        mine = {item.name: getattr(self, item.name) for item in fields(self)}
        return replace(weaker, **{name: value for name, value in mine.items() if value is not None})

    def over_row(self, row: CatalogueRow) -> CatalogueRow:
        """Returns a catalogue's row with these facts in place of its own."""
        mine = {item.name: getattr(self, item.name) for item in fields(self) if item.name != "labels"}
        return replace(row, **{name: value for name, value in mine.items() if value is not None})

    def apply(self, slide: Slide) -> Slide:
        """Returns the slide with these facts in place of its own.

        Raises:
            SlideError: the label file is missing, has no barcode column, repeats one, or has none of the slide's.
        """
        facts = {
            item.name: getattr(self, item.name)
            for item in fields(self)
            if item.name != "labels" and getattr(self, item.name) is not None
        }
        if self.labels is not None:
            facts["labels"] = {**slide.labels, **read_labels(self.labels, slide.name, slide.barcodes)}
        return replace(slide, **facts)


def read_sheet(path: Path) -> dict[str, SlideFacts]:
    """Read what the sheet says of slides, by slide name. An empty cell says nothing.

    Raises:
        ConfigError: no such file, an unknown column, no `slide` column, or a slide named twice.
    """
    if not path.is_file():
        raise ConfigError(f"there is no sheet {path}")
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except ValueError as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    known = ["slide", *(item.name for item in fields(SlideFacts))]
    unknown = [column for column in table.columns if column not in known]
    if unknown or "slide" not in table.columns:
        wrong = f"unknown columns {unknown}" if unknown else "no column 'slide'"
        raise ConfigError(f"{path}: {wrong}; known columns: {', '.join(known)}")
    repeated = table.slide[table.slide.duplicated()].tolist()
    if repeated:
        raise ConfigError(f"{path}: slide {repeated[0]!r} has more than one row")
    facts = {}
    for row in table.to_dict("records"):
        given = {name: value.strip() for name, value in row.items() if name != "slide" and value.strip()}
        if "labels" in given:
            given["labels"] = path.parent / given["labels"]
        facts[row["slide"]] = SlideFacts(**given)
    return facts


def read_labels(path: Path, slide_name: str, barcodes: np.ndarray) -> dict[str, np.ndarray]:
    """Read label columns in the slide's order of spots; '' where the file has no row or an empty cell for a spot.

    Raises:
        SlideError: see SlideFacts.apply.
    """
    if not path.is_file():
        raise SlideError(slide_name, f"its label file {path} is missing")
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except ValueError as error:
        raise SlideError(slide_name, f"{path} cannot be read: {error}") from error
    if "barcode" not in table.columns or table.shape[1] < 2:
        raise SlideError(slide_name, f"{path}: wanted a column 'barcode' and label columns, has {list(table.columns)}")
    if table.barcode.duplicated().any():
        repeated = table.barcode[table.barcode.duplicated()].iloc[0]
        raise SlideError(slide_name, f"{path}: barcode {repeated!r} has more than one row")
    table = table.set_index("barcode")
    if not table.index.isin(barcodes).any():
        raise SlideError(
            slide_name, f"{path}: none of its barcodes is one of the slide's, such as {str(barcodes[0])!r} of the slide"
        )
    table = table.reindex(barcodes, fill_value="")
    return {column: clean_labels(table[column]) for column in table.columns}
