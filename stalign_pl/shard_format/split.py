"""The split file: which slides train, validate and test. `data_prep splits` writes it, `data.split` reads it; no torch.

One JSON file, the same bytes for the same slides, scheme and seed:

    format_version, scheme, seed, unit, options     how it was made
    marks                                           what a reader of any table made from it must know
    made_from       {slides, digest}                the slide list that it belongs to
    folds           name -> {train, val, test}, each {slides, patients}, sorted
    sha256          of all the above
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from stalign_pl.errors import ConfigError, join_names
from stalign_pl.files import hash_json, write_json

SPLIT_FORMAT = 1
PARTS = ("train", "val", "test")


class ListedSlide(Protocol):
    """What a split needs of a slide: a SlideRecord has it, and so has a slide that is only planned."""

    @property
    def name(self) -> str: ...
    @property
    def patient(self) -> str: ...
    @property
    def patient_from(self) -> str: ...
    @property
    def study(self) -> str: ...


@dataclass(frozen=True)
class Part:
    """Slides of one part of a fold and their patients, both sorted by name."""

    slides: tuple[str, ...] = ()
    patients: tuple[str, ...] = ()

    @classmethod
    def of(cls, slides: Iterable[ListedSlide]) -> Part:
        """Make the part that holds these slides."""
        slides = list(slides)
        return cls(tuple(sorted(slide.name for slide in slides)), tuple(sorted({slide.patient for slide in slides})))


@dataclass(frozen=True)
class Fold:
    """One way of dividing the slides."""

    train: Part
    val: Part
    test: Part

    @property
    def parts(self) -> dict[str, Part]:
        """Name -> part, in the order of PARTS."""
        return {name: getattr(self, name) for name in PARTS}


@dataclass(frozen=True)
class Split:
    """A split file's content; the attributes are the file's keys.

    Attributes:
        scheme: how the slides were divided.
        seed: of the division.
        unit: what is never torn apart: "patient" or "study"; "slide" for the paper's.
        options: of the scheme.
        marks: caveats that stand under any table made from it.
        slides: number of slides it was made from.
        digest: `hash_slide_list` of them.
        folds: name -> fold.
    """

    scheme: str
    seed: int
    unit: str
    options: Mapping[str, Any]
    marks: tuple[str, ...]
    slides: int
    digest: str
    folds: Mapping[str, Fold]

    def content(self) -> dict[str, Any]:
        """Return the file's keys and values, but for its own hash."""
        return {
            "format_version": SPLIT_FORMAT,
            "scheme": self.scheme,
            "seed": self.seed,
            "unit": self.unit,
            "options": dict(self.options),
            "marks": list(self.marks),
            "made_from": {"slides": self.slides, "digest": self.digest},
            "folds": {
                name: {
                    part: {"slides": list(of.slides), "patients": list(of.patients)} for part, of in fold.parts.items()
                }
                for name, fold in self.folds.items()
            },
        }

    def sha256(self) -> str:
        """Return the split's own hash: every table and gene list made with it names it."""
        return hash_json(self.content())

    def write(self, path: Path) -> None:
        """Write the file; its folder is made."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {**self.content(), "sha256": self.sha256()})

    def fold(self, name: str | None) -> tuple[str, Fold]:
        """Return the fold of a name, or the only one, and its name.

        Args:
            name: None where there is only one.

        Raises:
            ConfigError: no such fold, or no name and several folds.
        """
        if name is None and len(self.folds) == 1:
            name = next(iter(self.folds))
        if name is None or name not in self.folds:
            what = "data.fold names none" if name is None else f"there is no fold {name!r}"
            raise ConfigError(f"the split has {len(self.folds)} folds and {what}; folds: {join_names(self.folds)}")
        return name, self.folds[name]

    def refuse_other_set(self, slides: Sequence[ListedSlide], path: Path, folder: Path) -> None:
        """Check that the split was made from these slides with these patients.

        Args:
            slides: of the set.
            path: the split file, for errors.
            folder: the set, for errors.

        Raises:
            ConfigError: it was not; names the slides that the set lacks, those that the split does not know, or those
                whose patient is in another part.
        """
        if hash_slide_list(slides, self.unit) == self.digest:
            return
        known = {name for fold in self.folds.values() for part in fold.parts.values() for name in part.slides}
        held = {slide.name: slide.patient for slide in slides}
        patients = {name for fold in self.folds.values() for part in fold.parts.values() for name in part.patients}
        differences = [
            f"{what}: {join_names(sorted(names))}"
            for what, names in (
                ("missing in the set", known - held.keys()),
                ("in the set and not in the split", held.keys() - known),
                ("of another patient now", {name for name in known & held.keys() if held[name] not in patients}),
            )
            if names
        ]
        differences = differences or ["the same slides, but patients or studies have changed hands"]
        again = f"python -m data_prep splits {folder} --scheme"
        keeping = "" if self.scheme == "paper" else f" (or, to keep every slide's part: {again} file --mapping {path})"
        raise ConfigError(
            f"{path} was made from another set than {folder}: {'; '.join(differences)}. Make it again: {again} "
            f"{self.scheme}{keeping}"
        )


def read_split(path: Path) -> Split:
    """Read a split file.

    Raises:
        ConfigError: no such file, not JSON, another format version, keys that are missing, a slide in two parts of a
            fold, or a content that its hash does not belong to.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"there is no split file {path}. Make one: python -m data_prep splits SHARDS") from error
    except ValueError as error:
        raise ConfigError(
            f"{path} is not a split file (JSON as `python -m data_prep splits` writes it): {error}"
        ) from error
    version = value.get("format_version") if isinstance(value, dict) else None
    if version != SPLIT_FORMAT:
        raise ConfigError(
            f"{path} has split format version {version!r}, this program reads version {SPLIT_FORMAT}. Make it again: "
            f"python -m data_prep splits SHARDS"
        )
    found = value.pop("sha256", None)
    true = hash_json(value)
    if found != true:
        raise ConfigError(
            f"{path} was changed after it was made: its hash is {str(found)[:12]}, its content's {true[:12]}. "
            f"To set slides' parts by hand: python -m data_prep splits SHARDS --scheme file --mapping CSV"
        )
    try:
        folds = {
            name: Fold(
                **{part: Part(**{key: tuple(of[key]) for key in ("slides", "patients")}) for part, of in fold.items()}
            )
            for name, fold in value["folds"].items()
        }
        split = Split(
            **{key: value[key] for key in ("scheme", "seed", "unit", "options")},
            marks=tuple(value["marks"]),
            slides=value["made_from"]["slides"],
            digest=value["made_from"]["digest"],
            folds=folds,
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path} is not a split file: {error!r} is missing or not as it should be") from error
    for name, fold in folds.items():
        names = [slide for part in fold.parts.values() for slide in part.slides]
        twice = sorted({slide for slide in names if names.count(slide) > 1}) if len(names) > len(set(names)) else []
        if twice:
            raise ConfigError(f"{path}: fold {name!r} has slides in two parts: {join_names(twice)}")
    return split


def hash_slide_list(slides: Iterable[ListedSlide], unit: str) -> str:
    """Return a SHA-256 of the names and patients (and studies where they are the unit), in the order of the names."""
    lines = sorted((slide.name, slide.patient, slide.study if unit == "study" else "") for slide in slides)
    return hashlib.sha256(json.dumps(lines).encode()).hexdigest()


def describe_patients(slides: Sequence[ListedSlide]) -> list[str]:
    """Say in words for a table what stands for a patient where none is named."""
    marks = []
    for who, text in (("slide", "a slide stands for a patient"), ("study", "the study stands for the patient")):
        count = sum(slide.patient_from == who for slide in slides)
        if count:
            marks.append(f"{text} in {count} of {len(slides)} slides")
    return marks
