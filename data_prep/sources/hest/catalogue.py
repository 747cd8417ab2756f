"""The catalogue of HEST-1k (HEST_v1_1_0.csv): species, technology, pixel size, patient and study of its samples.

Jaume et al. 2024, github.com/mahmoodlab/HEST.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from data_prep.slide.catalogue import CatalogueRow, translate_species, translate_technology
from data_prep.sources.catalogue_file import join_studies, parse_number, parse_whole_number, read_rows
from stalign_pl.errors import ConfigError

CATALOGUE = re.compile(r"HEST_v(\d+)_(\d+)_(\d+)\.csv")

COLUMNS = (
    "id", "dataset_title", "study_link", "organ", "tissue", "species", "patient", "st_technology", "license",
    "inter_spot_dist", "spot_diameter", "spots_under_tissue", "nb_genes", "pixel_size_um_estimated",
)  # fmt: skip

REPLICATE = re.compile(r"\bsection \d+|\s\d+$", re.IGNORECASE)
"""What tells the titles of two sections of one block apart: 'Human Breast Cancer (Block A Section 1)'."""


@dataclass(frozen=True)
class HestSample:
    """A row of the catalogue.

    Attributes:
        row: what every source's catalogue says.
        pitch_um: distance of spots, None where the row gives none.
        spot_um: diameter of spots, None where the row gives none.
        swapped: the row has a diameter larger than the distance (GSE144239: 150 and 110, where the spots are 110 um
            wide and 150 um apart), so the two were exchanged.
    """

    row: CatalogueRow
    pitch_um: float | None
    spot_um: float | None
    swapped: bool = False


def find_catalogue(folder: Path) -> Path:
    """Find the catalogue of the highest version in a download's root.

    Raises:
        ConfigError: there is none.
    """
    found = {
        tuple(int(part) for part in match.groups()): path
        for path in (folder.iterdir() if folder.is_dir() else ())
        if (match := CATALOGUE.fullmatch(path.name))
    }
    if not found:
        raise ConfigError(
            f"{folder} has no HEST-1k catalogue: wanted HEST_v1_1_0.csv or another version, as in the root of the "
            f"download, or the option `catalogue`"
        )
    return found[max(found)]


def read_catalogue(path: Path) -> dict[str, CatalogueRow]:
    """Read the rows of the catalogue by sample id, in the file's order; see `read_samples`."""
    return {name: sample.row for name, sample in read_samples(path).items()}


def read_samples(path: Path) -> dict[str, HestSample]:
    """Read what the catalogue says of its samples, by sample id, in the file's order.

    The study is the data set's title; titles with a study link in common, or that differ by the number of a section
    alone, are one study, named by the smallest of its titles. Patients are numbered within a study, so a patient is
    'study: patient'; most samples have none.

    Raises:
        ConfigError: no such file, a column missing, an id twice, or a number that is none.
    """
    rows = read_rows(path, "id", COLUMNS)
    studies = join_studies({name: _study_marks(name, row) for name, row in rows.items()})
    return {name: _read_sample(path, name, row, _name_study(studies[name])) for name, row in rows.items()}


def _study_marks(name: str, row: dict[str, str]) -> list[str]:
    title = row["dataset_title"] or name
    marks = [f"title {title}", f"block {REPLICATE.sub('', title).strip()}"]
    return [*marks, f"link {row['study_link']}"] if row["study_link"] else marks


def _name_study(marks: Collection[str]) -> str:
    return min(mark.removeprefix("title ") for mark in marks if mark.startswith("title "))


def _read_sample(path: Path, name: str, row: dict[str, str], study: str) -> HestSample:
    pitch, spot = (parse_number(path, name, column, row[column]) for column in ("inter_spot_dist", "spot_diameter"))
    swapped = pitch is not None and spot is not None and spot > pitch
    if swapped:
        pitch, spot = spot, pitch
    return HestSample(
        row=CatalogueRow(
            name=name,
            species=translate_species(row["species"]),
            tissue=(row["organ"] or row["tissue"]).lower(),
            technology=translate_technology(row["st_technology"]),
            study=study,
            patient=f"{study}: {row['patient']}" if row["patient"] else "",
            licence=row["license"],
            spots=parse_whole_number(path, name, "spots_under_tissue", row["spots_under_tissue"]),
            genes=parse_whole_number(path, name, "nb_genes", row["nb_genes"]),
            um_per_px=parse_number(path, name, "pixel_size_um_estimated", row["pixel_size_um_estimated"]),
        ),
        pitch_um=pitch,
        spot_um=spot,
        swapped=swapped,
    )
