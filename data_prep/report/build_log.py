"""What a build leaves beside the slides: exclusions.json, and a state file a slide."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path

from data_prep.build.build import EXCLUSIONS
from data_prep.build.state import STATES, SlideState
from data_prep.report.shard_set import read_json
from data_prep.slide.curation import Exclusion
from stalign_pl.errors import ShardError


@dataclass(frozen=True)
class ExclusionGroup:
    """The slides that one rule kept out at one stage, sorted by name."""

    stage: str
    rule: str
    exclusions: tuple[Exclusion, ...]


def read_exclusions(folder: Path) -> tuple[Exclusion, ...]:
    """Read a set's exclusions.json; empty without one.

    Raises:
        ShardError: the file is not a list of exclusions.
    """
    path = folder / EXCLUSIONS
    if not path.is_file():
        return ()
    value = read_json(path)
    if not isinstance(value, list) or not all(isinstance(item, dict) and item.get("slide") for item in value):
        raise ShardError(f"{path} should be a list of objects with the keys slide, stage, rule and reason")
    return tuple(
        Exclusion(*(str(item.get(key) or "") for key in ("slide", "stage", "rule", "reason"))) for item in value
    )


def read_states(folder: Path) -> dict[str, SlideState]:
    """Read slide -> its state; empty without state files.

    Raises:
        ShardError: a state file names no slide or no status.
    """
    states = {}
    for path in sorted((folder / STATES).glob("*.json")):
        value = read_json(path)
        if not isinstance(value, dict) or not value.get("slide") or not value.get("status"):
            raise ShardError(f"{path} should hold a slide's state with the keys slide and status")
        known = {item.name for item in fields(SlideState)} & value.keys()
        states[value["slide"]] = SlideState(**{"number": -1, **{key: value[key] for key in known}})
    return states


def group_exclusions(
    exclusions: Iterable[Exclusion], states: Iterable[SlideState], in_set: Iterable[str]
) -> tuple[ExclusionGroup, ...]:
    """Group the slides that are not in the set by stage and rule, the largest group first.

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
