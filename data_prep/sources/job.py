"""What a source gives: the slides it found in a folder, each a small picklable job that can be read in any process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from data_prep.slide.catalogue import CatalogueRow
from data_prep.slide.genes import GeneNames
from data_prep.slide.slide import Slide


class SlideJob(Protocol):
    """One slide of a source, not read yet."""

    @property
    def name(self) -> str: ...

    def genes(self) -> GeneNames:
        """Returns the columns that `read` will give, from the file's header alone."""
        ...

    def files(self) -> tuple[Path, ...]:
        """Returns the files that `read` reads; a slide is built again when one of them is newer than its record."""
        ...

    def read(self) -> Slide:
        """Read the slide.

        Raises:
            SlideError: a file is missing, damaged, or contradicts another.
        """
        ...


@dataclass(frozen=True)
class Discovery:
    """The slides of a folder.

    Attributes:
        jobs: one a slide, names unique.
        left_out: what looked like a slide but cannot be one: name -> reason.
        catalogue: name -> what the source's own catalogue says, of jobs and left-out slides; empty without one.
    """

    jobs: tuple[SlideJob, ...]
    left_out: dict[str, str] = field(default_factory=dict)
    catalogue: dict[str, CatalogueRow] = field(default_factory=dict)


@dataclass(frozen=True)
class ReaderOptions:
    """What a user may tell a reader.

    Attributes:
        labels: columns of obs that are labels (anndata); empty: the reader's own choice.
        catalogue: the source's catalogue file (stimage, hest); None: where the source's layout has it.
        bin_um: side of the bins that are read (space_ranger, spatialdata: Visium HD).
        table: name of the table that is read (spatialdata); empty: the only one, or the one of the bins.
    """

    labels: tuple[str, ...] = ()
    catalogue: Path | None = None
    bin_um: int = 16
    table: str = ""


Source = Callable[[Path, ReaderOptions], Discovery]
"""Discovers the slides under a folder. Raises ConfigError where there is none, saying what it looked for."""
