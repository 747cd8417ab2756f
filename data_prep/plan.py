"""The plan of a build: which slides, under which numbers, on which gene table. Made from headers alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.config import BuildConfig, SourceEntry
from data_prep.genes import GeneAxis, GeneNames, gene_axis
from data_prep.settings import BuildSettings, CropSettings
from data_prep.slide import SlideError
from data_prep.sources import Discovery, SlideJob, find_source
from data_prep.sources.sheet import SHEET, SlideFacts, read_sheet
from stalign_pl.errors import ConfigError, ShardError
from stalign_pl.shard_format import file_stem, write_json

PLAN = "plan.json"
RESERVED = ("plan", "manifest")


@dataclass(frozen=True)
class PlannedSlide:
    """One slide to build. `panel` indexes Plan.panels: the genes of its source entry."""

    number: int
    job: SlideJob
    facts: SlideFacts
    crops: CropSettings
    panel: int


@dataclass(frozen=True)
class Plan:
    """A whole build, decided before any slide is read.

    Attributes:
        slides: those whose header could be read.
        failed: slide -> why its header could not be read.
        left_out: slide -> why it is none (no image, ...).
        axis: the gene table.
        panels: per source entry, int32 sorted gene indices over all its slides.
    """

    settings: BuildSettings
    slide_as_patient: bool
    slides: tuple[PlannedSlide, ...]
    failed: dict[str, str]
    left_out: dict[str, str]
    axis: GeneAxis
    panels: tuple[np.ndarray, ...]

    def described(self) -> dict[str, Any]:
        """What decides the set's content, as plan.json holds it."""
        return {
            "settings": {**asdict(self.settings), "slide_as_patient": self.slide_as_patient},
            "gene_table": self.axis.table.digest(),
            "genes": len(self.axis.table),
            "slides": [
                {
                    "number": slide.number,
                    "name": slide.job.name,
                    **{
                        key: value
                        for key, value in asdict(slide.facts).items()
                        if key != "labels" and value is not None
                    },
                    **asdict(slide.crops),
                    "panel": hashlib.sha256(self.panels[slide.panel].tobytes()).hexdigest()[:12],
                }
                for slide in self.slides
            ],
        }


def make_plan(config: BuildConfig) -> Plan:
    """Discover the slides, number them (entries in order, names sorted) and make the gene table.

    Raises:
        ConfigError: nothing found, an unknown slide or patient name, or two slides of one name.
    """
    numbers: dict[str, int] = {}
    origins: dict[str, SourceEntry] = {}
    left_out: dict[str, str] = {}
    failed: dict[str, str] = {}
    found: list[tuple[int, SlideJob, SlideFacts, GeneNames]] = []
    for place, entry in enumerate(config.sources):
        discovery = find_source(entry.source)(entry.input, entry.options)
        facts_of = _facts(entry, discovery)
        wanted = _wanted(entry, discovery, config.only)
        left_out |= {name: reason for name, reason in discovery.left_out.items() if name in wanted}
        for job in sorted((job for job in discovery.jobs if job.name in wanted), key=lambda job: job.name):
            if job.name in origins:
                raise ConfigError(
                    f"two slides are named {job.name!r}: in {origins[job.name].input} and in {entry.input}. "
                    f"Rename one of the folders or files"
                )
            if file_stem(job.name) in RESERVED:
                raise ConfigError(
                    f"a slide cannot be named {job.name!r}: the set has a file of that name. Rename its folder"
                )
            origins[job.name], numbers[job.name] = entry, len(numbers)
            try:
                found.append((place, job, facts_of(job.name), job.genes()))
            except SlideError as error:
                failed[job.name] = error.what
    unknown = [name for name in config.only if name not in numbers and name not in left_out]
    if unknown:
        raise ConfigError(f"no source has a slide {unknown[0]!r}")
    axis = gene_axis(names for *_, names in found)
    slides = tuple(
        PlannedSlide(numbers[job.name], job, facts, config.sources[place].crops(config.settings), place)
        for place, job, facts, _ in found
    )
    panels = tuple(
        _panel(axis, [names for at, *_, names in found if at == place]) for place in range(len(config.sources))
    )
    return Plan(config.settings, config.slide_as_patient, slides, failed, left_out, axis, panels)


def _panel(axis: GeneAxis, slides: list[GeneNames]) -> np.ndarray:
    measured = [axis.columns(names) for names in slides]
    return np.unique(np.concatenate(measured)).astype(np.int32) if measured else np.empty(0, np.int32)


def _wanted(entry: SourceEntry, discovery: Discovery, only: tuple[str, ...]) -> set[str]:
    known = {job.name for job in discovery.jobs} | discovery.left_out.keys()
    unknown = [name for name in entry.slides if name not in known]
    if unknown:
        raise ConfigError(f"{entry.input} has no slide {unknown[0]!r}; it has: {', '.join(sorted(known))}")
    return (set(entry.slides) or known) & (set(only) or known)


def _facts(entry: SourceEntry, discovery: Discovery) -> Callable[[str], SlideFacts]:
    """Slide name -> facts. From strong to weak: the config's patients, the sheet's row, the entry's facts."""
    known = {job.name for job in discovery.jobs} | discovery.left_out.keys()
    path = entry.sheet or (entry.input / SHEET if (entry.input / SHEET).is_file() else None)
    rows = read_sheet(path) if path is not None else {}
    for origin, given in ((path, rows), ("patients", entry.patients)):
        unknown = [name for name in given if name not in known]
        if unknown:
            raise ConfigError(
                f"{origin}: there is no slide {unknown[0]!r} in {entry.input}; it has: {', '.join(sorted(known))}"
            )

    def facts_of(name: str) -> SlideFacts:
        row = rows.get(name, SlideFacts())
        return SlideFacts(patient=entry.patients.get(name)).over(row).over(entry.facts)

    return facts_of


def settle(out: Path, plan: Plan) -> None:
    """Take a folder for a plan: write genes.tsv and plan.json, or find that the folder holds this very plan.

    Raises:
        ShardError: the folder holds another plan's set, or a set without its plan.
    """
    out.mkdir(parents=True, exist_ok=True)
    path, described = out / PLAN, plan.described()
    if path.is_file():
        held = json.loads(path.read_text())
        if held == described:
            return
        raise ShardError(
            f"{out} holds a set of another plan: {_difference(held, described)}. Give another --out, or remove it"
        )
    if (out / "manifest.json").exists():
        raise ShardError(
            f"{out} holds a set without its {PLAN}, so it cannot be added to. Give another --out, or remove it"
        )
    plan.axis.table.write(out / "genes.tsv")
    write_json(path, described)


def _difference(held: dict[str, Any], wanted: dict[str, Any]) -> str:
    for name, value in wanted["settings"].items():
        if held["settings"].get(name) != value:
            return f"its setting {name} is {held['settings'].get(name)!r}, now {value!r}"
    before, now = ([slide["name"] for slide in plan["slides"]] for plan in (held, wanted))
    if before != now:
        return (
            f"it has {len(before)} slides, now {len(now)}; only there: {sorted(set(before) - set(now))}, "
            f"only now: {sorted(set(now) - set(before))}"
        )
    for old, new in zip(held["slides"], wanted["slides"], strict=True):
        if old != new:
            key = next(key for key in {**old, **new} if old.get(key) != new.get(key))
            return f"{key} of slide {new['name']!r} is {old.get(key)!r} there, now {new.get(key)!r}"
    return "its gene table is another one"
