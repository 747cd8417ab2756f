"""Split files in the report: how many slides, spots and patients train, validate and test, fold by fold."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stalign_pl.errors import ConfigError
from stalign_pl.shard_format import SlideRecord

PARTS = ("train", "val", "test")


@dataclass(frozen=True)
class PartRow:
    """One part of a fold. `missing`: its slides that the set does not hold."""

    part: str
    slides: tuple[str, ...]
    patients: tuple[str, ...]
    spots: int
    missing: tuple[str, ...]


@dataclass(frozen=True)
class FoldTable:
    """One fold. `shared`: patients that stand in more than one part."""

    name: str
    parts: tuple[PartRow, ...]
    shared: tuple[str, ...]


@dataclass(frozen=True)
class SplitTable:
    """A split file. `facts`: scheme, seed, unit and hash, as far as the file names them."""

    file: str
    facts: tuple[tuple[str, str], ...]
    marks: tuple[str, ...]
    folds: tuple[FoldTable, ...]
    unlisted: tuple[str, ...]  # slides of the set in no part of any fold


def read_split_table(path: Path, slides: Sequence[SlideRecord]) -> SplitTable:
    """Read a split file and count its parts in the set's spots.

    Patients are the set's own where it holds the slide, and what the file lists besides.

    Raises:
        ConfigError: no such file, or not a split file.
    """
    value = _read(path)
    records = {record.name: record for record in slides}
    folds = tuple(_fold(str(name), fold, records) for name, fold in value["folds"].items())
    listed = {slide for fold in folds for part in fold.parts for slide in part.slides}
    return SplitTable(
        file=path.name,
        facts=tuple((key, str(value[key])) for key in ("scheme", "seed", "unit", "sha256") if key in value),
        marks=tuple(str(mark) for mark in value.get("marks") or ()),
        folds=folds,
        unlisted=tuple(sorted(records.keys() - listed)),
    )


def _read(path: Path) -> Mapping[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"there is no split file {path}") from error
    except ValueError as error:
        raise ConfigError(f"{path} is not a split file: {error}") from error
    folds = value.get("folds") if isinstance(value, dict) else None
    if not isinstance(folds, dict) or not all(_is_fold(fold) for fold in folds.values()):
        raise ConfigError(
            f"{path} is not a split file: wanted `folds`, name -> {{train, val, test}}, each with lists `slides` and "
            f"`patients`"
        )
    return value


def _is_fold(fold: Any) -> bool:
    return isinstance(fold, dict) and all(
        isinstance(part, dict) and all(isinstance(part.get(key, []), list) for key in ("slides", "patients"))
        for part in fold.values()
    )


def _fold(name: str, fold: Mapping[str, Any], records: Mapping[str, SlideRecord]) -> FoldTable:
    parts = tuple(_part(part, fold[part], records) for part in PARTS if part in fold)
    patients = [patient for part in parts for patient in part.patients]
    return FoldTable(name, parts, tuple(sorted({patient for patient in patients if patients.count(patient) > 1})))


def _part(part: str, value: Mapping[str, Any], records: Mapping[str, SlideRecord]) -> PartRow:
    slides = tuple(sorted(str(slide) for slide in value.get("slides", ())))
    held = [records[slide] for slide in slides if slide in records]
    patients = {str(patient) for patient in value.get("patients", ())} | {record.patient for record in held}
    return PartRow(
        part,
        slides,
        tuple(sorted(patients)),
        sum(record.spots for record in held),
        tuple(slide for slide in slides if slide not in records),
    )
