"""The config of a build: sources, their folders and facts of their slides; from a YAML or options."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from data_prep.shards.settings import BuildSettings, CropSettings
from data_prep.slide.curation import Curation
from data_prep.sources import CATALOGUES, ReaderOptions, find_source
from data_prep.sources.sheet import SlideFacts
from stalign_pl.errors import ConfigError

ENTRY_FACTS = ("study", "species", "tissue", "technology", "licence")
ENTRY_KEYS = (
    "source", "input", "catalogue", "slides", "patients", *ENTRY_FACTS, "sheet", "labels", "bin_um", "table",
    "spot_scale", "niche_pitches"
)  # fmt: skip


@dataclass(frozen=True)
class SourceEntry:
    """One source of a build.

    Attributes:
        source: name of a reader.
        input: folder (or file) to discover slides in.
        slides: names to take; empty: all that are found.
        patients: slide -> patient.
        facts: study, species, ... of all slides of the entry; a sheet's row stands above them.
        sheet: a slides.csv; None: the one in the input folder, if there is one.
        options: what the reader is told.
        spot_scale: replaces the build's; None: the build's.
        niche_pitches: replaces the build's; None: the build's.
    """

    source: str
    input: Path
    slides: tuple[str, ...] = ()
    patients: Mapping[str, str] = field(default_factory=dict)
    facts: SlideFacts = field(default_factory=SlideFacts)
    sheet: Path | None = None
    options: ReaderOptions = field(default_factory=ReaderOptions)
    spot_scale: float | None = None
    niche_pitches: float | None = None

    def __post_init__(self) -> None:
        find_source(self.source)

    def crops(self, settings: BuildSettings) -> CropSettings:
        """The crops of this entry's slides."""
        return CropSettings(
            spot_scale=settings.spot_scale if self.spot_scale is None else self.spot_scale,
            niche_pitches=settings.niche_pitches if self.niche_pitches is None else self.niche_pitches,
        )


@dataclass(frozen=True)
class BuildConfig:
    """A whole build.

    Attributes:
        curation: which slides and spots stay.
        slide_as_patient: a slide whose patient nobody names is a patient of its own.
        only: names of the slides to take, from whatever source; empty: all.
    """

    sources: tuple[SourceEntry, ...]
    settings: BuildSettings = field(default_factory=BuildSettings)
    curation: Curation = field(default_factory=Curation)
    slide_as_patient: bool = False
    only: tuple[str, ...] = ()


def read_config(path: Path) -> BuildConfig:
    """Read a build's YAML.

    Its keys are `settings:` (see BuildSettings, and slide_as_patient), `curation:` (see Curation) and `sources:`, a
    list of entries. Paths are relative to the YAML's folder.

    Raises:
        ConfigError: no file, not YAML, an unknown key (with the known ones), or a value of the wrong kind.
    """
    import yaml

    if not path.is_file():
        raise ConfigError(f"there is no config {path}")
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} cannot be read as UTF-8: {error}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {error}") from error
    value = _check_mapping(value, str(path), ("settings", "curation", "sources"))
    known = (*(item.name for item in fields(BuildSettings)), "slide_as_patient")
    settings = dict(_check_mapping(value.get("settings") or {}, f"{path}: settings", known))
    slide_as_patient = settings.pop("slide_as_patient", False)
    if not isinstance(slide_as_patient, bool):
        raise ConfigError(f"{path}: settings: slide_as_patient is {slide_as_patient!r}; true or false is wanted")
    settings = _parse_settings(settings, f"{path}: settings")
    curation = _parse_curation(value.get("curation") or {}, f"{path}: curation")
    entries = value.get("sources")
    if not isinstance(entries, list) or not entries:
        raise ConfigError(f"{path}: `sources:` should be a list of entries with the keys {', '.join(ENTRY_KEYS)}")
    sources = tuple(_parse_entry(entry, path, f"{path}: sources[{number}]") for number, entry in enumerate(entries))
    return BuildConfig(sources, settings, curation, slide_as_patient)


def _parse_settings(value: dict[str, Any], where: str) -> BuildSettings:
    for name in ("radii_um", "nearest"):
        if name in value:
            items = value[name] if isinstance(value[name], list) else [value[name]]
            value[name] = tuple(_check_number(item, f"{where}: {name}", whole=name == "nearest") for item in items)
    for name in value.keys() - {"radii_um", "nearest"}:
        _check_number(value[name], f"{where}: {name}", whole=name in ("seed", "part_spots", "rings"))
    return BuildSettings(**value)


def _parse_curation(rules: object, where: str) -> Curation:
    value = dict(_check_mapping(rules, where, tuple(item.name for item in fields(Curation))))
    for name, given in value.items():
        at = f"{where}: {name}"
        if name in ("species", "technology"):
            value[name] = _check_texts(given, at)
        elif name == "exclude":
            value[name] = {str(slide): str(why) for slide, why in _check_mapping(given or {}, at, None).items()}
        elif name == "orientation":
            if not isinstance(given, bool):
                raise ConfigError(f"{at} is {given!r}; true or false is wanted")
        elif name != "duplicates" and not (given is None and name in ("max_um_per_px", "scale_tolerance")):
            _check_number(given, at, whole=name in ("min_spots", "min_spot_counts", "min_spot_genes"))
    return Curation(**value)


def _parse_entry(given: object, path: Path, where: str) -> SourceEntry:
    value = _check_mapping(given, where, ENTRY_KEYS)
    for key in ("source", "input"):
        if not isinstance(value.get(key), str):
            raise ConfigError(f"{where}: {key} is {value.get(key)!r}; a text is wanted")
    for key in ("catalogue", "sheet"):
        if value.get(key) is not None and not isinstance(value[key], str):
            raise ConfigError(f"{where}: {key} is {value[key]!r}; the path of a file is wanted")
    patients = _check_mapping(value.get("patients") or {}, f"{where}: patients", None)
    facts = {key: None if value.get(key) is None else str(value[key]) for key in ENTRY_FACTS}
    for key in ("spot_scale", "niche_pitches"):
        if value.get(key) is not None and _check_number(value[key], f"{where}: {key}") <= 0:
            raise ConfigError(f"{where}: {key} is {value[key]}; a value above 0 is wanted")
    return SourceEntry(
        source=value["source"],
        input=_resolve_path(path, value["input"]),
        slides=_check_texts(value.get("slides"), f"{where}: slides"),
        patients={str(slide): str(patient) for slide, patient in patients.items()},
        facts=replace(SlideFacts(), **facts),
        sheet=_resolve_path(path, value["sheet"]) if value.get("sheet") else None,
        options=_parse_options(value, path, where),
        spot_scale=value.get("spot_scale"),
        niche_pitches=value.get("niche_pitches"),
    )


def _resolve_path(path: Path, relative: str) -> Path:
    """Resolve a path of a config against the config's folder; without `..` where possible."""
    return Path(os.path.normpath(path.parent / relative))


def _parse_options(value: Mapping[str, Any], path: Path, where: str) -> ReaderOptions:
    options = ReaderOptions(labels=_check_texts(value.get("labels"), f"{where}: labels"))
    if value.get("catalogue") is not None and value["source"] not in CATALOGUES:
        raise ConfigError(f"{where}: source {value['source']!r} has no catalogue; {', '.join(CATALOGUES)} have one")
    if value.get("catalogue") is not None:
        options = replace(options, catalogue=_resolve_path(path, str(value["catalogue"])))
    if value.get("bin_um") is not None:
        options = replace(options, bin_um=int(_check_number(value["bin_um"], f"{where}: bin_um", whole=True)))
    if value.get("table") is not None:
        options = replace(options, table=str(value["table"]))
    return options


def _check_mapping(value: object, where: str, known: tuple[str, ...] | None) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where} is {value!r}; keys and values are wanted")
    unknown = [key for key in value if known is not None and key not in known]
    if unknown:
        raise ConfigError(f"{where}: unknown key {unknown[0]!r}; known keys: {', '.join(known or ())}")
    return value


def _check_texts(value: object, where: str) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise ConfigError(f"{where} is {value!r}; a list is wanted")
    return tuple(str(item) for item in value)


def _check_number(value: object, where: str, whole: bool = False) -> float:
    fits = isinstance(value, int) or not whole
    if fits and isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return value
    raise ConfigError(f"{where} is {value!r}; a {'whole ' if whole else ''}number is wanted")
