"""Units that a split keeps whole: the slides of a patient, of a donor known from the literature, of a duplicate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from data_prep.slide.patients import find_dlpfc_slice, find_known_patient
from stalign_pl.errors import ConfigError, join_names

UnitName = Literal["patient", "study"]


@dataclass(frozen=True)
class SplitSlide:
    """What a split knows of a slide, whether it is built or only planned.

    Attributes:
        patient_from: see shard_format.SlideRecord.
        duplicates: names of slides that hold the same section.
    """

    name: str
    patient: str
    patient_from: str = "source"
    study: str = ""
    tissue: str = ""
    spots: int = 0
    duplicates: tuple[str, ...] = ()


@dataclass(frozen=True)
class Tie:
    """Slides that belong into one part, and why."""

    why: str
    slides: tuple[str, ...]


@dataclass(frozen=True)
class Unit:
    """Slides that move together; `name` is their first patient."""

    slides: tuple[SplitSlide, ...]

    @cached_property
    def name(self) -> str:
        return min(slide.patient for slide in self.slides)

    @cached_property
    def spots(self) -> int:
        return sum(slide.spots for slide in self.slides)

    @cached_property
    def tissue(self) -> str:
        """The tissue of most of its spots, in lower case; ties by name."""
        spots = Counter()
        for slide in self.slides:
            spots[slide.tissue.strip().lower()] += max(slide.spots, 1)
        return min(spots, key=lambda tissue: (-spots[tissue], tissue))

    @cached_property
    def dlpfc(self) -> bool:
        """Whether one of the twelve DLPFC sections is in it."""
        return any(find_dlpfc_slice(slide.name) for slide in self.slides)


def find_ties(slides: Sequence[SplitSlide], unit: UnitName = "patient") -> list[Tie]:
    """List all reasons for which slides belong together.

    Raises:
        ConfigError: no slide, a slide listed twice or without patient, an unknown unit, or a duplicate of a slide that
            is not there.
    """
    if unit not in get_args(UnitName):
        raise ConfigError(f"unit is {unit!r}; known: {', '.join(get_args(UnitName))}")
    if not slides:
        raise ConfigError("there is no slide to split")
    times = Counter(slide.name for slide in slides)
    if max(times.values()) > 1:
        raise ConfigError(f"slide {max(times, key=lambda name: times[name])!r} is listed twice")
    unknown = sorted(slide.name for slide in slides if not slide.patient.strip())
    if unknown:
        raise ConfigError(
            f"{len(unknown)} slides have no patient, and splits are made by patient: {join_names(unknown)}. "
            f"Name it in a "
            f"sheet (slides.csv), let the study stand for it (the column study), or, where every slide is its own "
            f"patient, build with --slide-as-patient"
        )
    found = _tie_equal("patient", ((slide.name, slide.patient) for slide in slides))
    found += _tie_equal("donor", ((slide.name, find_known_patient(slide.name) or "") for slide in slides))
    if unit == "study":
        found += _tie_equal("study", ((slide.name, slide.study.strip()) for slide in slides))
    for slide in slides:
        absent = [name for name in slide.duplicates if name not in times]
        if absent:
            raise ConfigError(f"slide {slide.name!r} is a duplicate of {absent[0]!r}, which is not among the slides")
        found += [Tie("duplicates", (slide.name, other)) for other in slide.duplicates if other != slide.name]
    return found


def _tie_equal(kind: str, pairs: Iterable[tuple[str, str]]) -> list[Tie]:
    groups: dict[str, list[str]] = {}
    for slide, value in pairs:
        if value:
            groups.setdefault(value, []).append(slide)
    return [Tie(f"{kind} {value!r}", tuple(sorted(groups[value]))) for value in sorted(groups)]


def group_units(slides: Sequence[SplitSlide], found: Sequence[Tie]) -> list[Unit]:
    """Group slides so that no tie reaches beyond a group; sorted by name, independent of the order of the slides."""
    slides = sorted(slides, key=lambda slide: slide.name)
    place = {slide.name: number for number, slide in enumerate(slides)}
    pairs = [(place[tie.slides[0]], place[other]) for tie in found for other in tie.slides[1:]]
    one, other = np.array(pairs, np.int64).reshape(-1, 2).T
    graph = sparse.coo_array((np.ones(len(pairs), bool), (one, other)), shape=(len(slides), len(slides)))
    _, unit_of = connected_components(graph, directed=False)
    groups: dict[int, list[SplitSlide]] = {}
    for slide, number in zip(slides, unit_of.tolist(), strict=True):
        groups.setdefault(number, []).append(slide)
    return sorted((Unit(tuple(group)) for group in groups.values()), key=lambda unit: unit.name)


def find_torn(found: Sequence[Tie], part_of: Mapping[str, str]) -> list[str]:
    """List, in words, the ties that a division breaks; a slide that `part_of` leaves out breaks none."""
    broken = []
    for tie in found:
        parts: dict[str, list[str]] = {}
        for name in tie.slides:
            if name in part_of:
                parts.setdefault(part_of[name], []).append(name)
        if len(parts) > 1:
            where = "; ".join(f"{join_names(names)} in {part}" for part, names in sorted(parts.items()))
            broken.append(f"{tie.why}: {where}")
    return broken
