"""A catalogue's CSV: quoted fields with commas and newlines in them, perhaps a byte order mark."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from stalign_pl.errors import ConfigError


def read_rows(path: Path, key: str, columns: Sequence[str]) -> dict[str, dict[str, str]]:
    """Read the rows of a catalogue, cells stripped, by their value in the column `key`.

    Raises:
        ConfigError: no such file, no such CSV, a column missing, a row without or with a repeated key.
    """
    if not path.is_file():
        raise ConfigError(f"there is no catalogue {path}")
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            missing = [column for column in columns if column not in (reader.fieldnames or ())]
            if missing:
                raise ConfigError(
                    f"catalogue {path} has no column {missing[0]!r}; wanted: {', '.join(columns)}; it has: "
                    f"{', '.join(reader.fieldnames or ())}"
                )
            rows: dict[str, dict[str, str]] = {}
            for number, row in enumerate(reader, 1):
                if None in row or None in row.values():
                    raise ConfigError(f"catalogue {path}: row {number} has not {len(reader.fieldnames or ())} cells")
                cells = {column: value.strip() for column, value in row.items()}
                if not cells[key] or cells[key] in rows:
                    wrong = f"repeats {key} {cells[key]!r}" if cells[key] else f"has no {key}"
                    raise ConfigError(f"catalogue {path}: row {number} {wrong}")
                rows[cells[key]] = cells
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"catalogue {path} cannot be read: {error}") from error
    return rows


def parse_number(path: Path, name: str, column: str, text: str) -> float | None:
    """Read a cell as a number above 0; None for an empty one.

    Raises:
        ConfigError: anything else.
    """
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 < value < float("inf"):
        raise ConfigError(f"catalogue {path}: {column} of {name!r} is {text!r}; a number above 0 is wanted")
    return value


def parse_whole_number(path: Path, name: str, column: str, text: str) -> int | None:
    """Read a cell as `parse_number` does, for a count; `1,301` and 1301.5 are none."""
    value = parse_number(path, name, column, text)
    if value is not None and value != int(value):
        raise ConfigError(f"catalogue {path}: {column} of {name!r} is {text!r}; a whole number is wanted")
    return None if value is None else int(value)


def join_studies(marks_of_slide: Mapping[str, Iterable[str]]) -> dict[str, frozenset[str]]:
    """Returns slide -> every mark of its study.

    Slides that share a mark, or are linked by a chain of shared marks, are one study, so that a split by study tears no
    publication apart. Independent of the order of the slides.

    Args:
        marks_of_slide: slide -> at least one mark.
    """
    marks_of = {slide: tuple(marks) for slide, marks in marks_of_slide.items()}
    marks = sorted({mark for own in marks_of.values() for mark in own})
    number_of = {mark: number for number, mark in enumerate(marks)}
    links = sorted({(number_of[own[0]], number_of[mark]) for own in marks_of.values() for mark in own})
    if not links:
        return {}
    ends, size = np.array(links).T, len(marks)
    linked = sparse.coo_matrix((np.ones(len(links)), (ends[0], ends[1])), shape=(size, size))
    _, found = connected_components(linked, directed=False)
    study_of = dict(zip(marks, found.tolist(), strict=True))
    together: dict[int, set[str]] = {}
    for mark, study in study_of.items():
        together.setdefault(study, set()).add(mark)
    frozen = {study: frozenset(joined) for study, joined in together.items()}
    return {slide: frozen[study_of[own[0]]] for slide, own in marks_of.items()}
