"""How each slide's job ended: state/<stem>.json, one file a slide.

A state is about one build on one machine (it holds seconds), so it is not part of the shard set. A build that goes on
trusts it: what is done, set aside or a duplicate is not done again unless an input has changed.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal

from stalign_pl.files import sweep_temporary, write_json
from stalign_pl.shard_format import make_file_stem

STATES = "state"

Status = Literal["done", "failed", "set_aside", "duplicate"]


@dataclass(frozen=True)
class SlideState:
    """How one slide's job ended.

    Attributes:
        status: "done"; "failed": it could not be read; "set_aside": a rule left it out; "duplicate": built, and found
            to be another slide's section, so its shard was removed.
        rule: that left it out, "" where done.
        reason: why it is not done, "" where done.
        seconds: wall clock of the job.
        bytes: of the slide's files.
        sketch: hashes of its counts, see duplicates.py.
    """

    slide: str
    number: int
    status: Status
    rule: str = ""
    reason: str = ""
    seconds: float = 0.0
    bytes: int = 0
    spots: int = 0
    sketch: tuple[int, ...] = ()

    def write(self, out: Path) -> None:
        """Write the state into a set's folder."""
        path = state_path(out, self.slide)
        path.parent.mkdir(exist_ok=True)
        sweep_temporary(path.parent, path.name)
        write_json(path, asdict(self))


def state_path(out: Path, slide: str) -> Path:
    """The path of a slide's state file."""
    return out / STATES / f"{make_file_stem(slide)}.json"


def read_state(out: Path, slide: str) -> SlideState | None:
    """Read a slide's state; None, so that it is built again, where there is none of this version."""
    try:
        value = json.loads(state_path(out, slide).read_text())
        if set(value) != {item.name for item in fields(SlideState)}:
            return None
        return SlideState(**{**value, "sketch": tuple(value["sketch"])})
    except (OSError, ValueError, TypeError):
        return None
