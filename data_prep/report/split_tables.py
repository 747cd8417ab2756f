"""Split files in the report: how many slides, spots and patients train, validate and test, fold by fold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stalign_pl.shard_format import SlideRecord
from stalign_pl.shard_format.split import Fold, Part, read_split


@dataclass(frozen=True)
class PartRow:
    """One part of a fold.

    Attributes:
        part: train, val or test.
        slides: names.
        patients: of the slides by the set, and those that the file lists besides.
        spots: of its slides in the set.
        missing: its slides that the set does not hold.
    """

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
    """A split file.

    Attributes:
        file: its name.
        facts: scheme, seed, unit and hash.
        marks: caveats of the split.
        folds: a table each.
        unlisted: slides of the set in no part of any fold.
    """

    file: str
    facts: tuple[tuple[str, str], ...]
    marks: tuple[str, ...]
    folds: tuple[FoldTable, ...]
    unlisted: tuple[str, ...]


def read_split_table(path: Path, slides: Sequence[SlideRecord]) -> SplitTable:
    """Read a split file and count its parts in the set's spots. One made from another set is shown as far as it fits.

    Raises:
        ConfigError: no such file, or not a split file of this version.
    """
    split = read_split(path)
    records = {record.name: record for record in slides}
    folds = tuple(_count_fold(name, fold, records) for name, fold in split.folds.items())
    listed = {slide for fold in folds for part in fold.parts for slide in part.slides}
    return SplitTable(
        file=path.name,
        facts=(
            ("scheme", split.scheme),
            ("seed", str(split.seed)),
            ("unit", split.unit),
            ("made from", f"{split.slides} slides"),
            ("sha256", split.sha256()),
        ),
        marks=split.marks,
        folds=folds,
        unlisted=tuple(sorted(records.keys() - listed)),
    )


def _count_fold(name: str, fold: Fold, records: Mapping[str, SlideRecord]) -> FoldTable:
    parts = tuple(_count_part(part, of, records) for part, of in fold.parts.items())
    patients = [patient for part in parts for patient in part.patients]
    return FoldTable(name, parts, tuple(sorted({patient for patient in patients if patients.count(patient) > 1})))


def _count_part(name: str, part: Part, records: Mapping[str, SlideRecord]) -> PartRow:
    held = [records[slide] for slide in part.slides if slide in records]
    return PartRow(
        name,
        part.slides,
        tuple(sorted({*part.patients, *(record.patient for record in held)})),
        sum(record.spots for record in held),
        tuple(slide for slide in part.slides if slide not in records),
    )
