"""What a build leaves beside the slides: exclusions.json, and a state file a slide. Older sets have neither."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from stalign_pl.errors import ShardError

EXCLUSIONS = "exclusions.json"
STATE = "state"


@dataclass(frozen=True)
class Exclusion:
    """A slide that is not in the set: when that was decided (plan, build or duplicate), by which rule, and why."""

    slide: str
    stage: str = ""
    rule: str = ""
    reason: str = ""


@dataclass(frozen=True)
class SlideState:
    """A slide's state file. `status`: done, failed, set_aside or duplicate; None where the file does not say."""

    slide: str
    status: str
    rule: str = ""
    reason: str = ""
    seconds: float | None = None
    bytes: int | None = None


@dataclass(frozen=True)
class ExclusionGroup:
    """The slides that one rule kept out at one stage, sorted by name."""

    stage: str
    rule: str
    exclusions: tuple[Exclusion, ...]


def read_exclusions(folder: Path) -> tuple[Exclusion, ...]:
    """A set's exclusions.json; empty without one.

    Raises:
        ShardError: the file is not a list of exclusions.
    """
    path = folder / EXCLUSIONS
    if not path.is_file():
        return ()
    value = _json(path)
    if not isinstance(value, list) or not all(isinstance(item, dict) and item.get("slide") for item in value):
        raise ShardError(f"{path} should be a list of objects with the keys slide, stage, rule and reason")
    return tuple(_filled(Exclusion, item) for item in value)


def read_states(folder: Path) -> dict[str, SlideState]:
    """Slide -> its state; empty without state files.

    Raises:
        ShardError: a state file names no slide or no status.
    """
    states = {}
    for path in sorted((folder / STATE).glob("*.json")):
        value = _json(path)
        if not isinstance(value, dict) or not value.get("slide") or not value.get("status"):
            raise ShardError(f"{path} should hold a slide's state with the keys slide and status")
        states[value["slide"]] = _filled(SlideState, value)
    return states


def excluded(
    exclusions: Iterable[Exclusion], states: Iterable[SlideState], in_set: Iterable[str]
) -> tuple[ExclusionGroup, ...]:
    """Who is not in the set, grouped by stage and rule, the largest group first.

    A slide whose state says so and that exclusions.json (written at the end of a build) does not list is added; one
    that is in the set after all, built by a later call, is not listed.
    """
    found = {item.slide: item for item in exclusions}
    for state in states:
        if state.status != "done" and state.slide not in found:
            stage = "duplicate" if state.status == "duplicate" else "build"
            found[state.slide] = Exclusion(state.slide, stage, state.rule or state.status, state.reason)
    kept = sorted((item for name, item in found.items() if name not in set(in_set)), key=lambda item: item.slide)
    sizes = Counter((item.stage, item.rule) for item in kept)
    return tuple(
        ExclusionGroup(stage, rule, tuple(item for item in kept if (item.stage, item.rule) == (stage, rule)))
        for stage, rule in sorted(sizes, key=lambda key: (-sizes[key], key))
    )


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ShardError(f"{path} is not JSON: {error}") from error


def _filled(kind: type, value: dict[str, Any]) -> Any:
    """`kind` from the keys that it knows; null counts as not given."""
    known = {item.name for item in fields(kind)}
    return kind(**{key: item for key, item in value.items() if key in known and item is not None})
