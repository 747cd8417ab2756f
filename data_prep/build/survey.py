"""Every slide that a config's sources know of, and whether it is to be built, by catalogue and files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from data_prep.build.config import BuildConfig, SourceEntry
from data_prep.slide.catalogue import CatalogueRow
from data_prep.slide.curation import Exclusion, judge_row
from data_prep.slide.patients import find_unit
from data_prep.sources import CATALOGUES, Discovery, SlideJob, find_source
from data_prep.sources.sheet import SHEET, SlideFacts, read_sheet
from stalign_pl.errors import ConfigError
from stalign_pl.shard_format import make_file_stem

RESERVED = ("plan", "manifest", "exclusions", "report")
"""Stems of a set's own files."""


@dataclass(frozen=True)
class Candidate:
    """One slide that a source knows of.

    Attributes:
        entry: number of the config's source entry.
        row: what is known of it beforehand: the catalogue's row, overridden by the entry, the sheet, the config.
        facts: values that replace the reader's: the user's overrides, else the catalogue's.
        patient_from: where `row.patient` comes from, see shard_format.SlideRecord; "" where it is not known yet.
        job: None where no files were looked for, or something of the slide is missing.
        exclusion: why it is not to be built, or None.
    """

    entry: int
    row: CatalogueRow
    facts: SlideFacts
    patient_from: str
    job: SlideJob | None
    exclusion: Exclusion | None

    @property
    def name(self) -> str:
        return self.row.name


def list_candidates(config: BuildConfig, files: bool = True) -> tuple[Candidate, ...]:
    """List the candidates, entries in order, names sorted within an entry.

    Args:
        files: look for each slide's files; False goes by the catalogue alone where a source has one.

    Raises:
        ConfigError: nothing found, an unknown slide name in the entry's slides, patients or sheet, in `only` or in the
            curation's `exclude`, two slides of one name, or a name that the set keeps for itself.
    """
    found = tuple(
        candidate
        for place, entry in enumerate(config.sources)
        for candidate in _list_candidates(place, entry, _discover(entry, files), config)
    )
    names = {candidate.name for candidate in found}
    unknown = [name for name in config.only if name not in names]
    if unknown:
        raise ConfigError(f"no source has a slide {unknown[0]!r}")
    _refuse_unknown_exclusions(config, names)
    found = tuple(candidate for candidate in found if not config.only or candidate.name in config.only)
    _refuse_clashes([candidate for candidate in found if candidate.exclusion is None], config)
    return found


def _refuse_unknown_exclusions(config: BuildConfig, names: set[str]) -> None:
    unknown = [name for name in config.curation.exclude if name not in names]
    if unknown:
        raise ConfigError(f"curation: exclude names {unknown[0]!r}, which no source has: {_join_names(sorted(names))}")


def _refuse_clashes(wanted: list[Candidate], config: BuildConfig) -> None:
    origins: dict[str, Path] = {}
    for candidate in wanted:
        folder = config.sources[candidate.entry].input
        if origins.get(candidate.name) == folder:
            raise ConfigError(f"the sources name {folder} twice, so slide {candidate.name!r} would be built twice")
        if candidate.name in origins:
            raise ConfigError(
                f"two slides are named {candidate.name!r}: in {origins[candidate.name]} and in {folder}. "
                f"Rename one of the folders or files"
            )
        if make_file_stem(candidate.name) in RESERVED:
            raise ConfigError(
                f"a slide cannot be named {candidate.name!r}: the set has a file of that name. Rename its folder"
            )
        origins[candidate.name] = folder


def _discover(entry: SourceEntry, files: bool) -> Discovery:
    if not files and entry.source in CATALOGUES:
        find, read = CATALOGUES[entry.source]
        return Discovery((), {}, read(entry.options.catalogue or find(entry.input)))
    if not entry.input.exists():
        raise ConfigError(f"input {entry.input} of source {entry.source} does not exist")
    return find_source(entry.source)(entry.input, entry.options)


def _list_candidates(place: int, entry: SourceEntry, discovery: Discovery, config: BuildConfig) -> Iterator[Candidate]:
    jobs = {job.name: job for job in discovery.jobs}
    known = sorted(jobs.keys() | discovery.left_out.keys() | discovery.catalogue.keys())
    sheet = entry.sheet or (entry.input / SHEET if (entry.input / SHEET).is_file() else None)
    rows = read_sheet(sheet) if sheet is not None else {}
    for origin, names in (("slides", entry.slides), (sheet, rows), ("patients", entry.patients)):
        unknown = [name for name in names if name not in known]
        if unknown:
            raise ConfigError(
                f"{origin}: there is no slide {unknown[0]!r} in {entry.input}; it has: {_join_names(known)}"
            )
    for name in known:
        if entry.slides and name not in entry.slides:
            continue
        row = discovery.catalogue.get(name, CatalogueRow(name))
        given = {"config": SlideFacts(patient=entry.patients.get(name)), "sheet": rows.get(name, SlideFacts())}
        patient_from = next((who for who, facts in given.items() if facts.patient), "source" if row.patient else "")
        facts = given["config"].over(given["sheet"]).over(entry.facts)
        row = facts.over_row(row)
        verdict = judge_row(row, config.curation)
        if verdict is None and name in discovery.left_out:
            verdict = "files", discovery.left_out[name]
        exclusion = None if verdict is None else Exclusion(name, "plan", *verdict)
        yield Candidate(place, row, _complete_facts(facts, row), patient_from, jobs.get(name), exclusion)


def _complete_facts(facts: SlideFacts, row: CatalogueRow) -> SlideFacts:
    """Complete the user's facts by the catalogue's, see Candidate.facts."""
    stated = {item.name: getattr(row, item.name, None) or None for item in fields(SlideFacts)}
    return facts.over(SlideFacts(**stated))


def _join_names(names: list[str]) -> str:
    return ", ".join(names[:20]) + (f", ... ({len(names)} in all)" if len(names) > 20 else "")


def make_plan_row(candidate: Candidate, source: str, config: BuildConfig) -> dict[str, object]:
    """Make one line of `plan`'s table (slides.csv). `patient` is the unit of a split; a reader may still name one."""
    row, who, exclusion = candidate.row, candidate.patient_from, candidate.exclusion
    if row.patient or row.study or config.slide_as_patient:
        patient, who = find_unit(row.name, row.patient, who, row.study, config.slide_as_patient)
        row = replace(row, patient=patient)
    return {
        "slide": row.name,
        "kept": "no" if exclusion else "yes",
        "rule": exclusion.rule if exclusion else "",
        "reason": exclusion.reason if exclusion else "",
        "source": source,
        "patient_from": who,
        **{key: "" if value is None else value for key, value in asdict(row).items() if key != "name"},
    }
