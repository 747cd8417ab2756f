"""What a source gives: the slides it found in a folder, each a small picklable job that can be read in any process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from data_prep.genes import GeneNames
from data_prep.slide import Slide


class SlideJob(Protocol):
    """One slide of a source, not read yet."""

    @property
    def name(self) -> str: ...

    def genes(self) -> GeneNames:
        """The columns that `read` will give, from the file's header alone."""
        ...

    def files(self) -> tuple[Path, ...]:
        """The files that `read` reads; a slide is built again when one of them is newer than its record."""
        ...

    def read(self) -> Slide:
        """Read the slide.

        Raises:
            SlideError: a file is missing, damaged, or contradicts another.
        """
        ...


@dataclass(frozen=True)
class Discovery:
    """The slides of a folder, by name, and what looked like a slide but cannot be one: name -> reason."""

    jobs: tuple[SlideJob, ...]
    left_out: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ReaderOptions:
    """What a user may tell a reader.

    Attributes:
        labels: columns of obs that are labels (anndata); empty: the reader's own choice.
    """

    labels: tuple[str, ...] = ()


Source = Callable[[Path, ReaderOptions], Discovery]
"""Discovers the slides under a folder. Raises SourceError where there is none, saying what it looked for."""
