"""Divides a shard set's slides into training, validation and test: by lists of patients, or by a split file."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from stalign_pl.data.shards.shard_set import ShardSet, SlideShard
from stalign_pl.errors import ConfigError
from stalign_pl.shard_format.split import describe_patients, read_split

Slides = dict[int, SlideShard]

LISTS = ("data.val_patients", "data.test_patients", "data.train_patients")


@dataclass(frozen=True)
class Division:
    """Slides by number, in three disjoint parts.

    Attributes:
        train: training slides.
        val: validation slides.
        test: test slides.
        marks: caveats that every table made from it must state.
        split: path of the split file; "" without one.
        fold: its fold; "" without a file.
        split_sha256: its hash; "" without a file.
    """

    train: Slides
    val: Slides
    test: Slides
    marks: tuple[str, ...]
    split: str = ""
    fold: str = ""
    split_sha256: str = ""

    def describe(self) -> str:
        """Describe the division in one line."""
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
    """Divide a shard set by a split file or by lists of patients.

    Args:
        shards: the shard set.
        split: path of a split file; None takes the lists.
        fold: fold of the split file; None where it has only one.
        val: validation patients.
        test: test patients.
        train: training patients; None takes everybody else.

    Raises:
        ConfigError: both or a fold without a file are given; a file that is damaged, of another set, or without that
            fold; lists that overlap, or nobody to train on.
        ShardError: a patient whom the set does not hold.
    """
    if split is None:
        if fold is not None:
            raise ConfigError(f"data.fold is {fold!r}, and data.split, the file that has the folds, is not given")
        return _divide_by_patients(shards, val or [], test or [], train)
    given = [name for name, patients in zip(LISTS, (val, test, train), strict=True) if patients]
    if given:
        raise ConfigError(
            f"data.split ({split}) and {', '.join(given)} are both given; the file says who is in which part. Set the "
            f"lists to null, or data.split"
        )
    return _divide_by_file(shards, Path(split), fold)


def _divide_by_file(shards: ShardSet, path: Path, fold: str | None) -> Division:
    """Divide by a split file; errors as of `divide`."""
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
    marks = tuple(dict.fromkeys((*split.marks, *describe_set(shards))))
    return Division(**parts, marks=marks, split=str(path), fold=name, split_sha256=split.sha256())


def _divide_by_patients(shards: ShardSet, val: list[str], test: list[str], train: list[str] | None) -> Division:
    """Divide by lists of patients; errors as of `divide`."""
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
    return Division(val=parts[0], test=parts[1], train=parts[2], marks=tuple(describe_set(shards)))


def describe_set(shards: ShardSet) -> list[str]:
    """Caveats on the patients that the shard set itself states."""
    marks = describe_patients(shards.manifest.slides)
    if shards.manifest.settings.get("slide_as_patient") and not any(mark.startswith("a slide") for mark in marks):
        marks.insert(0, "built with slide_as_patient: a slide whose patient nobody named is a patient of its own")
    return marks
