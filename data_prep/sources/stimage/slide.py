"""STimage-1K4M: ST and Visium sections as CSV files and an image each, and one catalogue.

Chen et al. 2024, github.com/JiawenChenn/STimage-1K4M; huggingface.co/datasets/jiawennnn/STimage-1K4M. Positions are
pixels of the shipped image, which for many Visium slides is a thumbnail of 2,000 px: see a slide's um/px.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from sys import intern
from typing import TYPE_CHECKING

import numpy as np

from data_prep.slide.catalogue import CatalogueRow
from data_prep.slide.genes import GeneNames, make_gene_names
from data_prep.slide.lattice_fit import fit_lattice, measure_grid_residual
from data_prep.slide.slide import Lattice, Slide, SlideError, SlideImage
from data_prep.slide.validation import check_whole_counts
from data_prep.sources.job import Discovery, ReaderOptions
from data_prep.sources.legacy_st.tables import undo_make_unique
from data_prep.sources.spot_array import PITCH_UM as ST_PITCH_UM
from data_prep.sources.spot_array import SPOT_UM as ST_SPOT_UM
from data_prep.sources.spot_array import is_dense, make_square_grid
from data_prep.sources.stimage.catalogue import find_catalogue, read_catalogue
from data_prep.sources.stimage.count_table import read_count_table, read_genes
from data_prep.sources.stimage.tables import read_annotation, read_coordinates, strip_prefix
from stalign_pl.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd

FOLDER_OF = {"ST": "ST", "Visium": "Visium", "Visium HD": "VisiumHD"}
"""The catalogue's technology to the folder of its slides."""

PARTS = {"coord": "_coord.csv", "gene_exp": "_count.csv", "image": ".png"}
"""A technology's folders, and how their files end; the image's format does not follow its suffix."""

VISIUM_PITCH_UM, VISIUM_SPOT_UM = 100.0, 55.0

WIDE_ARRAYS = {"GSE144239": (150.0, 110.0)}
"""Accession -> pitch and spot (um) of legacy arrays that are not the usual 200 and 100 um (Ji et al. 2020)."""

FULLRES_UM_PER_PX = 2.0
"""Coarser images are reduced ones; their kind is `shipped`, because a scanner gives 1 um a pixel or finer."""

MISFIT = 0.3
"""A grid read from spot names counts if 95 % of the spots are nearer than this, in pitches, to where it puts them.
Printed arrays scatter by up to a fifth."""


def discover(folder: Path, options: ReaderOptions) -> Discovery:
    """Find the slides of a download, whole or partial: {ST,Visium}/{coord,gene_exp,image}/, annotation/, meta/.

    Left out, with the reason: slides of which a file is not there, files that the catalogue does not list, and the four
    Visium HD slides.

    Raises:
        ConfigError: no catalogue, a damaged one, or an option that this source does not have.
    """
    if options.labels:
        raise ConfigError("source stimage has no label columns to choose: it reads annotation/<slide>_anno.csv")
    rows = read_catalogue(options.catalogue or find_catalogue(folder))
    present = {
        (technology, part): _find_names(folder / technology / part, ending)
        for technology in FOLDER_OF.values()
        for part, ending in PARTS.items()
    }
    annotated = _find_names(folder / "annotation", "_anno.csv")
    jobs, left_out = [], {}
    for name, row in rows.items():
        reason = _explain_absence(row, present)
        if reason:
            left_out[name] = reason
            continue
        coord, counts, image = (
            folder / FOLDER_OF[row.technology] / part / f"{name}{ending}" for part, ending in PARTS.items()
        )
        labels = folder / "annotation" / f"{name}_anno.csv" if name in annotated else None
        jobs.append(STimageSlide(name, row, coord, counts, image, labels))
    for (technology, part), names in present.items():
        for name in sorted(names - rows.keys()):
            left_out.setdefault(
                name, f"the catalogue does not list it; there is {technology}/{part}/{name}{PARTS[part]}"
            )
    return Discovery(tuple(jobs), left_out, rows)


def _find_names(folder: Path, ending: str) -> frozenset[str]:
    """Returns what stands before `ending` in the folder's file names; case counts, on every file system."""
    if not folder.is_dir():
        return frozenset()
    return frozenset(
        path.name.removesuffix(ending) for path in folder.iterdir() if path.name.endswith(ending) and path.is_file()
    )


def _explain_absence(row: CatalogueRow, present: dict[tuple[str, str], frozenset[str]]) -> str:
    """Returns why a slide of the catalogue cannot be read; '' where it can."""
    folder = FOLDER_OF.get(row.technology)
    if folder is None:
        return f"its technology is {row.technology!r}; this source reads {' and '.join(('ST', 'Visium'))}"
    if row.technology == "Visium HD":
        return (
            f"Visium HD: {row.spots} bins whose side is not stated, as dense text; read the Space Ranger output "
            f"instead (source space_ranger)"
        )
    missing = [
        f"{folder}/{part}/{row.name}{end}" for part, end in PARTS.items() if row.name not in present[folder, part]
    ]
    if len(missing) == len(PARTS):
        return f"not downloaded: none of its files is in {folder}/"
    return f"has no {' and no '.join(missing)}" if missing else ""


@dataclass(frozen=True)
class STimageSlide:
    """One slide's files; see SlideJob.

    Attributes:
        name: the slide's.
        row: what the catalogue says.
        coord: positions.
        counts: the count table.
        image: the shipped image.
        labels: a pathologist's annotation, None where there is none.
    """

    name: str
    row: CatalogueRow
    coord: Path
    counts: Path
    image: Path
    labels: Path | None = None

    def files(self) -> tuple[Path, ...]:
        return (self.coord, self.counts, self.image, *((self.labels,) if self.labels else ()))

    def genes(self) -> GeneNames:
        return self._name_genes(read_genes(self.name, self.counts))

    def read(self) -> Slide:
        spots = read_coordinates(self.name, self.coord)
        table = read_count_table(self.name, self.counts)
        barcodes = np.array(strip_prefix(self.name, table.spots), dtype=str)
        counted = np.isin(barcodes, spots.index.to_numpy(dtype=str))
        if not counted.any():
            raise SlideError(
                self.name,
                f"no spot of {self.counts} is in {self.coord}: {barcodes[:1].tolist()} against "
                f"{spots.index[:1].tolist()}",
            )
        notes = _note_losses(len(barcodes), int(counted.sum()), len(spots))
        counts = table.counts if counted.all() else table.counts[counted]
        barcodes, spots = barcodes[counted], spots.loc[barcodes[counted]]
        pitch_um, spot_um, lattice, grid, note = self._find_array(spots)
        names = self._name_genes(table.genes)
        slide = Slide(
            name=self.name,
            source="stimage",
            patient="",
            barcodes=barcodes,
            xy=spots[["x", "y"]].to_numpy(np.float64),
            counts=check_whole_counts(self.name, counts, str(self.counts)),
            gene_ids=np.array(names.ids, dtype=object),
            gene_symbols=np.array(names.symbols, dtype=object),
            image=SlideImage(self.image, "fullres"),
            pitch_um=pitch_um,
            spot_um=spot_um,
            lattice=lattice,
            grid=grid,
            labels=read_annotation(self.name, self.labels, barcodes) if self.labels else {},
            study=self.row.study,
            species=self.row.species,
            tissue=self.row.tissue,
            technology=self.row.technology,
            licence=self.row.licence,
            spot_px=2 * float(spots.r.median()),
            notes=(*notes, *note),
        )
        reduced = slide.pitch_um > FULLRES_UM_PER_PX * slide.pitch_px
        return replace(slide, image=SlideImage(self.image, "shipped")) if reduced else slide

    def _name_genes(self, columns: Sequence[str]) -> GeneNames:
        """Returns interned names, because a plan holds the names of hundreds of slides, mostly the same."""
        return make_gene_names([intern(column) for column in undo_make_unique(columns)])

    def _find_array(self, spots: pd.DataFrame) -> tuple[float, float, Lattice, np.ndarray | None, tuple[str, ...]]:
        """Returns pitch and spot in um, lattice and grid, and a note where the array could not be told."""
        xy = spots[["x", "y"]].to_numpy(np.float64)
        if self.row.technology == "Visium":
            fit = fit_lattice(xy, "hex")
            if fit is None:
                return VISIUM_PITCH_UM, VISIUM_SPOT_UM, "none", None, ("positions fit no hexagonal array",)
            return VISIUM_PITCH_UM, VISIUM_SPOT_UM, "hex", fit.grid, ()
        pitch_um, spot_um = WIDE_ARRAYS.get(self.name.partition("_")[0], (ST_PITCH_UM, ST_SPOT_UM))
        places = [re.search(r"(?:^|_)(\d+)x(\d+)$", str(barcode)) for barcode in spots.index]
        if not all(places):
            return pitch_um, spot_um, "none", None, ("spots are not named <x>x<y>, so their places are unknown",)
        x, y = np.array([place.groups() for place in places if place], dtype=np.int32).T
        dense = is_dense(x, y)
        if dense and pitch_um == ST_PITCH_UM:
            pitch_um /= math.sqrt(2)
        grid = make_square_grid(x, y, dense)
        if len(np.unique(grid, axis=0)) < len(grid) or not measure_grid_residual(grid, xy) < MISFIT:
            return pitch_um, spot_um, "none", None, ("the places in the spots' names contradict their positions",)
        return pitch_um, spot_um, "square", grid, ()


def _note_losses(counted: int, common: int, placed: int) -> tuple[str, ...]:
    return tuple(
        f"{lost} of {total} spots {what}"
        for lost, total, what in (
            (counted - common, counted, "with counts have no position"),
            (placed - common, placed, "with a position have no counts"),
        )
        if lost
    )
