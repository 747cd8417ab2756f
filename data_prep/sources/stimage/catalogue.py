"""The catalogue of STimage-1K4M (meta/meta_all_gene*.csv): species, tissue, technology and study of 1,149 slides.

Chen et al. 2024, github.com/JiawenChenn/STimage-1K4M. The February 2025 version renames a mouse slide that the first
calls human.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from data_prep.slide.catalogue import CatalogueRow, translate_species, translate_technology
from data_prep.sources.catalogue_file import join_studies, parse_whole_number, read_rows
from stalign_pl.errors import ConfigError

CATALOGUES = ("meta_all_gene02122025.csv", "meta_all_gene.csv")
"""Newest first."""

COLUMNS = ("slide", "species", "tissue", "pmid", "tech", "spot_num", "gene_num")
LICENCE = "MIT"

ACCESSION = re.compile(r"^(GSE\d+)_")
AUTHOR_AND_DATE = re.compile(r"^[^_]+_[^_]+_([^_]+)_(\d{8})_")
"""Human_Brain_Maynard_02082021_Visium_151507. Species and technology are not taken from a name: Mouse_Brain_10X_
03292024_VIsiumHD (sic) exists, and a slide was renamed from human to mouse."""


def find_catalogue(folder: Path) -> Path:
    """Find the newest catalogue of a download, in meta/ or in the folder itself.

    Raises:
        ConfigError: there is none.
    """
    for name in CATALOGUES:
        for place in (folder / "meta", folder):
            if (place / name).is_file():
                return place / name
    raise ConfigError(
        f"{folder} has no STimage-1K4M catalogue: wanted meta/{' or meta/'.join(CATALOGUES)}, as in the root of the "
        f"download, or the option `catalogue`"
    )


def read_catalogue(path: Path) -> dict[str, CatalogueRow]:
    """Read the rows of the catalogue by slide, in the file's order.

    No slide has a patient. The unit is the study: the accession in the slide's name, or author and date from it, or
    else the pmid; slides whose pmids link them are one study, named by the smallest of its accessions, else of its
    author-and-dates ('Maynard 02082021'), else of its pmids.

    Raises:
        ConfigError: no such file, a column missing, a slide named twice, or a count that is none.
    """
    rows = read_rows(path, "slide", COLUMNS)
    studies = join_studies({slide: _study_marks(path, slide, row["pmid"]) for slide, row in rows.items()})
    return {
        slide: CatalogueRow(
            name=slide,
            species=translate_species(row["species"]),
            tissue=row["tissue"].lower(),
            technology=translate_technology(row["tech"]),
            study=_name_study(studies[slide]),
            licence=LICENCE,
            spots=parse_whole_number(path, slide, "spot_num", row["spot_num"]),
            genes=parse_whole_number(path, slide, "gene_num", row["gene_num"]),
        )
        for slide, row in rows.items()
    }


def _study_marks(path: Path, slide: str, pmids: str) -> list[str]:
    marks = [f"pmid {pmid}" for pmid in re.split(r"[\s,;]+", pmids) if pmid]
    wrong = [mark for mark in marks if not mark.removeprefix("pmid ").isdigit()]
    if wrong:
        raise ConfigError(f"catalogue {path}: pmid of {slide!r} is {pmids!r}; numbers, separated by commas, are wanted")
    if accession := ACCESSION.match(slide):
        marks.append(accession.group(1))
    elif author := AUTHOR_AND_DATE.match(slide):
        marks.append(f"{author.group(1)} {author.group(2)}")
    return marks or [slide]


def _name_study(marks: Collection[str]) -> str:
    def strength(mark: str) -> tuple[int, int, str]:
        if accession := re.fullmatch(r"GSE(\d+)", mark):
            return 0, int(accession.group(1)), mark
        return (2 if mark.startswith("pmid ") else 1), 0, mark

    return min(marks, key=strength)
