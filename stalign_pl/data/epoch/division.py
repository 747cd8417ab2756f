"""Which slides of a set train, validate and test: by lists of patients in the config, or by a split file."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from stalign_pl.data.shards.shard_set import ShardSet, SlideShard
from stalign_pl.errors import ConfigError
from stalign_pl.shard_format.split import patient_marks, read_split

Slides = dict[int, SlideShard]

LISTS = ("data.val_patients", "data.test_patients", "data.train_patients")


@dataclass(frozen=True)
class Division:
    """Slides by number, in three parts that share none.

    Attributes:
        marks: what every table made from it must say.
        split, fold, split_sha256: the split file, its fold and its hash; "" without one.
    """

    train: Slides
    val: Slides
    test: Slides
    marks: tuple[str, ...]
    split: str = ""
    fold: str = ""
    split_sha256: str = ""

    def described(self) -> str:
        """One line for people."""
        where = f"split {self.split}, fold {self.fold}" if self.split else "patients of the config"
        counts = [
            f"{part} {len(slides)} slides of {len({slide.record.patient for slide in slides.values()})} patients"
            for part, slides in (("train", self.train), ("val", self.val), ("test", self.test))
        ]
        return f"{where}: {', '.join(counts)}"


def divide(
    shards: ShardSet,
    split: str | None,
    fold: str | None,
    val: list[str] | None,
    test: list[str] | None,
    train: list[str] | None,
) -> Division:
    """Divide a set by a split file or by lists of patients.

    Raises:
        ConfigError: both or a fold without a file are given; a file that is damaged, of another set, or without that
            fold; lists that overlap, or nobody to train on.
        ShardError: a patient whom the set does not hold.
    """
    if split is None:
        if fold is not None:
            raise ConfigError(f"data.fold is {fold!r}, and data.split, the file that has the folds, is not given")
        return _by_patients(shards, val or [], test or [], train)
    given = [name for name, patients in zip(LISTS, (val, test, train), strict=True) if patients]
    if given:
        raise ConfigError(
            f"data.split ({split}) and {', '.join(given)} are both given; the file says who is in which part. Set the "
            f"lists to null, or data.split"
        )
    return _by_file(shards, Path(split), fold)


def _by_file(shards: ShardSet, path: Path, fold: str | None) -> Division:
    split = read_split(path)
    split.refuse_other_set(shards.manifest.slides, path, shards.folder)
    name, chosen = split.fold(fold)
    number = {record.name: record.number for record in shards.manifest.slides}
    parts = {
        part: {place: shards.slides[place] for place in sorted(number[slide] for slide in of.slides)}
        for part, of in chosen.parts.items()
    }
    if not parts["train"]:
        raise ConfigError(f"{path}: fold {name!r} has nobody to train on")
    marks = tuple(dict.fromkeys((*split.marks, *set_marks(shards))))
    return Division(**parts, marks=marks, split=str(path), fold=name, split_sha256=split.sha256())


def _by_patients(shards: ShardSet, val: list[str], test: list[str], train: list[str] | None) -> Division:
    everybody = {slide.record.patient for slide in shards.slides.values()}
    if train is None:
        train = sorted(everybody - set(val) - set(test))
    for (one, these), (other, those) in combinations(zip(LISTS, (val, test, train), strict=True), 2):
        both = sorted(set(these) & set(those))
        if both:
            raise ConfigError(f"patient {', '.join(both)} is in {one} and in {other}; lists must be disjoint")
    if not train:
        raise ConfigError(f"no patient is left to train on: {shards.folder} holds {sorted(everybody)}")
    parts = [shards.of_patients(patients, name) for name, patients in zip(LISTS, (val, test, train), strict=True)]
    return Division(val=parts[0], test=parts[1], train=parts[2], marks=tuple(set_marks(shards)))


def set_marks(shards: ShardSet) -> list[str]:
    """What the set itself says of its patients."""
    marks = patient_marks(shards.manifest.slides)
    if shards.manifest.settings.get("slide_as_patient") and not any(mark.startswith("a slide") for mark in marks):
        marks.insert(0, "built with slide_as_patient: a slide whose patient nobody named is a patient of its own")
    return marks
