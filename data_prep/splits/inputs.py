"""What a split is made from: a shard set or a CSV of planned slides, a list of duplicates, a mapping."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from data_prep.splits.schemes import ONLY, Mappings
from data_prep.splits.units import SplitSlide
from stalign_pl.errors import ConfigError, join_names
from stalign_pl.shard_format import Manifest
from stalign_pl.shard_format.index import DUPLICATES
from stalign_pl.shard_format.split import read_split

NEEDED = ("slide", "patient", "patient_from", "study", "spots")
"""Columns of a CSV of planned slides; it may also have tissue, duplicate_of and kept ("no" leaves the
slide out), and others, which are left alone."""


def read_slides(source: Path) -> list[SplitSlide]:
    """Read the slides of a shard set (a folder) or of a CSV.

    Raises:
        ConfigError: neither, or a CSV without the columns or with a number of spots that is none.
        ShardError: a folder without a manifest, or one of another format version.
    """
    if source.is_file():
        return _read_planned(source)
    if not source.is_dir():
        raise ConfigError(f"there is no shard set or CSV of slides {source}")
    slides = [
        SplitSlide(record.name, record.patient, record.patient_from, record.study, record.tissue, record.spots)
        for record in Manifest.read(source).slides
    ]
    return add_duplicates(slides, source / DUPLICATES) if (source / DUPLICATES).is_file() else slides


def _read_planned(path: Path) -> list[SplitSlide]:
    slides = []
    for line, row in _read_rows(path, NEEDED):
        if row.get("kept", "yes") == "no":
            continue
        spots = row["spots"] or "0"
        if not spots.isdecimal():
            raise ConfigError(
                f"{path}, line {line}: slide {row['slide']!r} has {spots!r} spots; a whole number is wanted"
            )
        twins = tuple(name.strip() for name in row.get("duplicate_of", "").split(";") if name.strip())
        known = {key: row[key] for key in ("patient", "patient_from", "study")}
        slides.append(
            SplitSlide(row["slide"], **known, tissue=row.get("tissue", ""), spots=int(spots), duplicates=twins)
        )
    return slides


def add_duplicates(slides: Sequence[SplitSlide], path: Path) -> list[SplitSlide]:
    """Add the duplicates that a CSV of the columns slide and duplicate_of lists.

    Raises:
        ConfigError: no such file or columns, or a slide that is not among the slides.
    """
    twins: dict[str, list[str]] = {}
    known = {slide.name for slide in slides}
    for line, row in _read_rows(path, ("slide", "duplicate_of")):
        for name in (row["slide"], row["duplicate_of"]):
            if name not in known:
                raise ConfigError(f"{path}, line {line}: there is no slide {name!r}")
        twins.setdefault(row["slide"], []).append(row["duplicate_of"])
    return [replace(slide, duplicates=(*slide.duplicates, *twins.get(slide.name, ()))) for slide in slides]


def read_split_mapping(path: Path, slides: Sequence[SplitSlide]) -> Mappings:
    """Read fold -> slide or patient -> part from a CSV (columns slide or patient, part, perhaps fold) or a split file.

    A split file is one made from other slides, a plan say: slides that are no longer there are left out.

    Raises:
        ConfigError: no such file, missing columns, or a slide or patient given two parts.
    """
    if path.suffix == ".json" or (path.is_file() and path.read_bytes()[:1] == b"{"):
        known = {slide.name for slide in slides}
        folds = read_split(path).folds
        return {
            name: {slide: part for part, of in fold.parts.items() for slide in of.slides if slide in known}
            for name, fold in folds.items()
        }
    mapping: dict[str, dict[str, str]] = {}
    for line, row in _read_rows(path, ("part",)):
        keys = [row[column] for column in ("slide", "patient") if row.get(column)]
        if len(keys) != 1:
            raise ConfigError(f"{path}, line {line}: a slide or a patient is wanted, and a part; got {json.dumps(row)}")
        fold = mapping.setdefault(row.get("fold") or ONLY, {})
        if fold.setdefault(keys[0], row["part"]) != row["part"]:
            raise ConfigError(f"{path}, line {line}: {keys[0]!r} is in {fold[keys[0]]!r} already")
    if not mapping:
        raise ConfigError(f"{path} has no row")
    return mapping


def _read_rows(path: Path, needed: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """Read (line, row) of a CSV, cells stripped."""
    if not path.is_file():
        raise ConfigError(f"there is no file {path}")
    with path.open(newline="", encoding="utf-8-sig") as file:
        table = csv.DictReader(file)
        missing = [name for name in needed if name not in (table.fieldnames or ())]
        if missing:
            raise ConfigError(
                f"{path} has no column {join_names(missing)}; it has: {join_names(table.fieldnames or ())}"
            )
        return [
            (table.line_num, {key: (value or "").strip() for key, value in row.items() if key is not None})
            for row in table
        ]
