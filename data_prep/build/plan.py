"""The plan of a build: which slides, under which numbers, on which gene table. Made from headers alone."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.build.config import BuildConfig
from data_prep.build.state import SlideState
from data_prep.build.survey import Candidate, list_candidates
from data_prep.console import show_bar
from data_prep.shards.settings import BuildSettings, CropSettings
from data_prep.slide.curation import Curation, Exclusion
from data_prep.slide.genes import GeneAxis, GeneNames, make_gene_axis
from data_prep.slide.slide import SlideError
from data_prep.sources import SlideJob
from data_prep.sources.sheet import SlideFacts
from stalign_pl.errors import ConfigError, ShardError
from stalign_pl.files import write_json

PLAN = "plan.json"


@dataclass(frozen=True)
class PlannedSlide:
    """One slide to build.

    Attributes:
        facts: values that replace the reader's.
        patient_from: where `facts.patient` comes from; "" where it is not known yet.
        panel: indexes Plan.panels: the genes of its source entry.
    """

    number: int
    job: SlideJob
    facts: SlideFacts
    patient_from: str
    crops: CropSettings
    panel: int


@dataclass(frozen=True)
class Plan:
    """A whole build, decided before any slide is read.

    Attributes:
        slides: those whose header could be read.
        failed: those whose header could not be read, with the reason.
        exclusions: slides that the catalogue or missing files rule out.
        axis: the gene table.
        panels: per source entry, int32 sorted gene indices over all its slides.
    """

    settings: BuildSettings
    curation: Curation
    slide_as_patient: bool
    slides: tuple[PlannedSlide, ...]
    failed: tuple[SlideState, ...]
    exclusions: tuple[Exclusion, ...]
    axis: GeneAxis
    panels: tuple[np.ndarray, ...]

    def to_json(self) -> dict[str, Any]:
        """The plan as plan.json holds it: all that decides the set's content."""
        panels = [hashlib.sha256(panel.tobytes()).hexdigest()[:12] for panel in self.panels]
        described = {
            "settings": self.settings_to_json(),
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
                    "panel": panels[slide.panel],
                }
                for slide in self.slides
            ],
        }
        return _convert_as_json(described)

    def settings_to_json(self) -> dict[str, Any]:
        """The settings as plan.json and the manifest hold them."""
        curation = {key: value for key, value in asdict(self.curation).items() if key != "exclude"}
        return _convert_as_json(
            {**asdict(self.settings), "slide_as_patient": self.slide_as_patient, "curation": curation}
        )


def _convert_as_json(value: dict[str, Any]) -> dict[str, Any]:
    """Convert a value to what JSON gives back: lists for tuples."""
    return json.loads(json.dumps(value))


def make_plan(config: BuildConfig, progress: bool = False) -> Plan:
    """Survey the sources, number the slides that stay (entries in order, names sorted) and make the gene table.

    Args:
        progress: show a bar of slides whose headers are read, on stderr.

    Raises:
        ConfigError: nothing found, an unknown slide or patient name, or two slides of one name.
    """
    candidates = list_candidates(config)
    wanted = [candidate for candidate in candidates if candidate.exclusion is None]
    failed: list[SlideState] = []
    found: list[tuple[int, Candidate, SlideJob, GeneNames]] = []
    for number, candidate in enumerate(show_bar(wanted, "headers", progress)):
        job = candidate.job
        assert job is not None, "a slide with neither files nor an exclusion"
        try:
            found.append((number, candidate, job, job.genes()))
        except SlideError as error:
            failed.append(SlideState(candidate.name, number, "failed", reason=error.what))
    axis = make_gene_axis(names for *_, names in found)
    slides = tuple(
        PlannedSlide(
            number,
            job,
            candidate.facts,
            candidate.patient_from,
            config.sources[candidate.entry].crops(config.settings),
            candidate.entry,
        )
        for number, candidate, job, _ in found
    )
    panels = tuple(
        _unite_genes(axis, [names for _, candidate, _, names in found if candidate.entry == place])
        for place in range(len(config.sources))
    )
    exclusions = tuple(candidate.exclusion for candidate in candidates if candidate.exclusion is not None)
    return Plan(
        config.settings, config.curation, config.slide_as_patient, slides, tuple(failed), exclusions, axis, panels
    )


def _unite_genes(axis: GeneAxis, slides: list[GeneNames]) -> np.ndarray:
    measured = [axis.columns(names) for names in slides]
    return np.unique(np.concatenate(measured)).astype(np.int32) if measured else np.empty(0, np.int32)


def claim_folder(out: Path, plan: Plan) -> None:
    """Prepare a folder for a plan: write genes.tsv and plan.json, or find the same plan there.

    Raises:
        ShardError: the folder holds another plan's set, or a set without its plan.
    """
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out {out} is a file; a folder is wanted")
    out.mkdir(parents=True, exist_ok=True)
    path, described = out / PLAN, plan.to_json()
    if path.is_file():
        try:
            held = read_plan_file(path)
        except ShardError as error:
            raise ShardError(
                f"{path} is damaged, so the set cannot be added to ({error}). Give another --out, or remove {out}"
            ) from error
        if held == described:
            return
        raise ShardError(
            f"{out} holds a set of another plan: {_describe_difference(held, described)}. "
            f"Give another --out, or remove it"
        )
    if (out / "manifest.json").exists():
        raise ShardError(
            f"{out} holds a set without its {PLAN}, so it cannot be added to. Give another --out, or remove it"
        )
    plan.axis.table.write(out / "genes.tsv")
    write_json(path, described)


def read_plan_file(path: Path) -> dict[str, Any]:
    """Read the plan of a set that is there.

    Raises:
        ShardError: it is not a plan.
    """
    try:
        plan = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ShardError(f"{path} is not JSON: {error}") from error
    if not isinstance(plan, dict) or not isinstance(plan.get("settings"), dict) or not _are_slides(plan.get("slides")):
        raise ShardError(f"{path} should be an object with the keys settings and slides")
    return plan


def _are_slides(slides: object) -> bool:
    return isinstance(slides, list) and all(isinstance(slide, dict) and "name" in slide for slide in slides)


def _describe_difference(held: dict[str, Any], wanted: dict[str, Any]) -> str:
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
