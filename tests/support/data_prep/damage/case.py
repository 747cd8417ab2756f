"""One variant of damage: what is done to the files of one slide, and by what words the build has to name it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

CLASSES = ("missing", "truncated", "columns", "counts", "coordinates", "ids", "encoding", "images")


@dataclass(frozen=True)
class Case:
    """A variant.

    Attributes:
        layout: key of cohorts.LAYOUTS.
        spoil: damages the slide BAD of the cohort in a folder.
        message: a regular expression that the reason must match.
        rule: the curation's rule where the slide is to be quarantined; '' where it is to be an error.
        refused: the whole build is refused (a damaged catalogue, sheet or config), so no other slide is built.
        yaml: text of a build.yaml that is written into the folder and built in place of the folder itself.
    """

    layout: str
    name: str
    spoil: Callable[[Path], object]
    message: str
    rule: str = ""
    refused: bool = False
    yaml: str | bytes = ""

    def __str__(self) -> str:
        return f"{self.layout}-{self.name}"
