"""A source's catalogue: facts of slides before any file is opened, for curation and splits."""

from __future__ import annotations

from dataclasses import dataclass

SPECIES = {"homo sapiens": "human", "mus musculus": "mouse", "rattus norvegicus": "rat"}
"""Latin names to the words that STimage-1K4M and our configs use."""

TECHNOLOGIES = {"spatial transcriptomics": "ST", "visiumhd": "Visium HD"}
"""What catalogues call a technology, in lower case, to one word for each."""


@dataclass(frozen=True)
class CatalogueRow:
    """One slide of a catalogue; '' or None where it says nothing.

    Attributes:
        name: the slide's name, as the source's `discover` names it.
        species: one of SPECIES' values, or the catalogue's own word in lower case ('human & mouse': a xenograft).
        technology: 'Visium', 'Visium HD', 'ST', 'Xenium', ...
        study: accession, pmid, or author and date: the unit of a split where no patient is known.
        patient: unique over the source (two studies' "patient 1" are two patients).
        spots: number of spots by the catalogue.
        genes: number of genes by the catalogue.
        um_per_px: of the shipped image.
    """

    name: str
    species: str = ""
    tissue: str = ""
    technology: str = ""
    study: str = ""
    patient: str = ""
    licence: str = ""
    spots: int | None = None
    genes: int | None = None
    um_per_px: float | None = None


def translate_species(text: str) -> str:
    """Translate a species: 'Homo sapiens' -> 'human'."""
    return SPECIES.get(text.strip().lower(), text.strip().lower())


def translate_technology(text: str) -> str:
    """Translate a technology: 'Spatial Transcriptomics' -> 'ST', 'VisiumHD' -> 'Visium HD'."""
    return TECHNOLOGIES.get(text.strip().lower(), text.strip())
