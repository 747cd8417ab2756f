"""Legacy spatial transcriptomics: her2st, ST-Net, the ST pipeline's tables and GEO's copies of them.

The arrays have 100 um spots, 200 um apart on a square lattice. The later, denser arrays have a second such lattice in
the gaps (x + y is even everywhere): together a square lattice turned by 45 degrees, 200 / sqrt(2) um apart.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_prep.slide.catalogue import CatalogueRow
from data_prep.slide.genes import GeneNames
from data_prep.slide.slide import Slide, SlideError, SlideImage
from data_prep.slide.validation import check_whole_counts
from data_prep.sources.job import Discovery, ReaderOptions
from data_prep.sources.legacy_st.layouts import WANTED, SectionFiles, find_sections
from data_prep.sources.legacy_st.tables import read_counts, read_regions, read_section_genes, read_spots
from data_prep.sources.spot_array import PITCH_UM, SPOT_UM, is_dense, make_square_grid
from stalign_pl.errors import ConfigError


def discover(folder: Path, options: ReaderOptions) -> Discovery:
    """Find the sections of a folder; see layouts. Those without counts, image or spot file are left out.

    Raises:
        ConfigError: none of the layouts, two sections of one name, or an option that this source does not have.
    """
    if options.labels:
        raise ConfigError("source legacy_st has no label columns to choose; give labels by a sheet (slides.csv)")
    found = find_sections(folder)
    if not found:
        raise ConfigError(f"{folder} holds no legacy ST section: wanted {WANTED}")
    names = [section.name for section in found]
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        spots = ", ".join(str(section.spots) for section in found if section.name == repeated)
        raise ConfigError(f"two sections are named {repeated!r}, by {spots}; keep or name one")
    return Discovery(
        tuple(LegacySection.of(section) for section in found if not section.missing),
        {section.name: section.missing for section in found if section.missing},
        {section.name: CatalogueRow(section.name, patient=section.patient, technology="ST") for section in found},
    )


@dataclass(frozen=True)
class LegacySection:
    """One section's files; see SlideJob and SectionFiles."""

    name: str
    patient: str
    counts: Path
    spots: Path
    image: Path
    labels: Path | None = None

    @classmethod
    def of(cls, found: SectionFiles) -> LegacySection:
        return cls(found.name, found.patient, found.counts, found.spots, found.image, found.labels)

    def files(self) -> tuple[Path, ...]:
        return (self.counts, self.spots, self.image, *((self.labels,) if self.labels else ()))

    def genes(self) -> GeneNames:
        return read_section_genes(self.counts, self.name)

    def read(self) -> Slide:
        table, spots = read_counts(self.counts, self.name), read_spots(self.spots, self.name)
        places = spots.index.get_indexer(table.spots)
        kept = places >= 0
        if not kept.any():
            raise SlideError(
                self.name,
                f"no spot of {self.counts.name} is in {self.spots.name}: {table.spots[:1].tolist()} against "
                f"{spots.index[:1].tolist()} (spots are named <x>x<y>)",
            )
        dense = is_dense(spots.x.to_numpy(), spots.y.to_numpy())
        used, names = spots.iloc[places[kept]], table.genes
        x, y = used.x.to_numpy(np.int32), used.y.to_numpy(np.int32)
        return Slide(
            name=self.name,
            source="legacy_st",
            patient=self.patient,
            barcodes=table.spots[kept].astype(str),
            xy=used[["pixel_x", "pixel_y"]].to_numpy(np.float64),
            counts=check_whole_counts(self.name, table.values[kept], str(self.counts)),
            gene_ids=np.array(names.ids, dtype=object),
            gene_symbols=np.array(names.symbols, dtype=object),
            image=SlideImage(self.image, "fullres"),
            pitch_um=PITCH_UM / math.sqrt(2) if dense else PITCH_UM,
            spot_um=SPOT_UM,
            lattice="square",
            grid=make_square_grid(x, y, dense),
            absent_is_zero=True,
            labels=read_regions(self.labels, self.name, table.spots[kept]) if self.labels else {},
            technology="ST",
            notes=_note_losses(int((~kept).sum()), len(spots) - int(kept.sum())),
        )


def _note_losses(without_position: int, without_counts: int) -> tuple[str, ...]:
    notes = []
    if without_position:
        notes.append(f"{without_position} spots of the counts have no position (under tissue) and are left out")
    if without_counts:
        notes.append(f"{without_counts} spots under tissue have no counts")
    return tuple(notes)
