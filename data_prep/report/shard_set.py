"""The set that is reported: by its manifest, or, while it is being built, by the slides' records."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.build.plan import read_plan_file
from stalign_pl.errors import ShardError
from stalign_pl.shard_format import GeneTable, Manifest, SlideRecord

SET_FILES = ("manifest.json", "plan.json", "genes.tsv")


@dataclass(frozen=True)
class ReportedSet:
    """A set as it stands on disk.

    Attributes:
        slides: by number.
        settings: of the build; empty where neither manifest nor plan says.
        finished: there is a manifest.
        planned: slides of plan.json, None without one.
        bytes: of the slides' files (a shared panel counted once), the gene table, the plan and the manifest.
    """

    folder: Path
    slides: tuple[SlideRecord, ...]
    settings: dict[str, Any]
    genes: GeneTable
    finished: bool
    planned: int | None
    bytes: int


def read_set(folder: Path) -> ReportedSet:
    """Read a finished set, or what there is of one that is still being built.

    Raises:
        ShardError: the folder is no set, a file of it is damaged, or the set has another format version.
    """
    plan = _read_plan(folder / "plan.json")
    if (folder / "manifest.json").is_file() or plan is None:
        manifest = Manifest.read(folder)
        slides, settings, finished = manifest.slides, manifest.settings, True
    else:
        slides, settings, finished = _read_records(folder), plan["settings"], False
    sizes = {name: described["bytes"] for slide in slides for name, described in slide.files.items()}
    own = sum((folder / name).stat().st_size for name in SET_FILES if (folder / name).is_file())
    if not (folder / "genes.tsv").is_file():
        raise ShardError(f"{folder} has no genes.tsv, so its genes cannot be named. Build the set again")
    return ReportedSet(
        folder,
        slides,
        settings,
        GeneTable.read(folder / "genes.tsv"),
        finished,
        None if plan is None else len(plan["slides"]),
        own + sum(sizes.values()),
    )


def _read_plan(path: Path) -> dict[str, Any] | None:
    """Read plan.json; None without one.

    Raises:
        ShardError: it is not a plan.
    """
    return read_plan_file(path) if path.is_file() else None


def _read_records(folder: Path) -> tuple[SlideRecord, ...]:
    """Read the records of a set without manifest: every .json of the folder that is one."""
    found = []
    for path in sorted(folder.glob("*.json")):
        value = read_json(path)
        if isinstance(value, dict) and value.get("stem") == path.stem:
            found.append(SlideRecord.from_json(value, path))
    return tuple(sorted(found, key=lambda record: record.number))


def read_json(path: Path) -> object:
    """Read a JSON file of a set.

    Raises:
        ShardError: it is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ShardError(f"{path} is not JSON: {error}") from error
