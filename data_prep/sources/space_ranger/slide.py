"""10x Space Ranger output, versions 1 to 4: Visium, Visium from a CytAssist, Visium HD; in outs/ or as GEO's copies."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from data_prep.gzipped import read_plain
from data_prep.slide.genes import GeneNames
from data_prep.slide.slide import Slide, SlideError, SlideImage
from data_prep.sources.job import Discovery, ReaderOptions
from data_prep.sources.reading import explain_damage
from data_prep.sources.space_ranger.barcodes import match_barcodes
from data_prep.sources.space_ranger.files import (
    SpaceRangerFiles,
    find_prefixed_files,
    find_prefixes,
    find_slide_files,
    holds_matrix,
    is_slide_folder,
)
from data_prep.sources.space_ranger.names import IMAGE_SUFFIXES
from data_prep.sources.space_ranger.spatial_folder import (
    ScaleFactors,
    find_tissue_image,
    read_positions,
    read_scale_factors,
)
from data_prep.sources.spot_array import identify_array
from stalign_pl.errors import ConfigError

PROBE_PANELS = {17943: "human, version 1", 18085: "human, version 2"}
"""Genes of 10x's probe panels (FFPE and CytAssist kits): a gene that is not among them was not looked for."""

CYTASSIST_SPOTS = 14_336
"""Spots of the 11 mm array, which only a CytAssist serves (6.5 mm: 4,992)."""

FOREIGN = 0.1
"""A filtered matrix holds the spots in tissue. Somebody may have dropped spots from either file; where more than this
share of both has no match in the other, the two are not of one slide."""

COARSE_UM_PER_PX = 3.0
"""A coarser "full-resolution" frame is the CytAssist's own picture (4-5 um a pixel), not a microscope's (below 1.5)."""


def discover(folder: Path, options: ReaderOptions) -> Discovery:
    """Find a slide's folder, a folder of such folders, or a flat folder with one slide a prefix (GEO).

    A slide is named after its folder or its prefix. Prefixes without positions or without a matrix are left out.

    Raises:
        ConfigError: no folder, none is there, two of one name, or an option that this source does not have.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder} is no folder; source space_ranger reads folders")
    if options.labels:
        raise ConfigError("source space_ranger has no label columns to choose; give labels by a sheet (slides.csv)")
    if is_slide_folder(folder):
        return Discovery((SpaceRangerSlide(folder.resolve().name, folder, options.bin_um),))
    jobs, left_out = _find_flat_slides(folder, options.bin_um)
    for inner in sorted(path for path in folder.iterdir() if path.is_dir()):
        if is_slide_folder(inner):
            jobs.append(SpaceRangerSlide(inner.name, inner, options.bin_um))
            continue
        if not find_prefixes(inner) and holds_matrix(inner):
            left_out[inner.name] = f"has a count matrix and no folder spatial/ in {inner} (its name is in lower case)"
        found, missing = _find_flat_slides(inner, options.bin_um)
        jobs += found
        left_out |= missing
    if not jobs:
        raise ConfigError(
            f"{folder} holds no Space Ranger slide: wanted a folder with spatial/, a folder of such folders "
            f"(<slide>/spatial or <slide>/outs/spatial), or files <slide>_filtered_feature_bc_matrix.h5, "
            f"<slide>_tissue_positions_list.csv, ... in one folder"
            + "".join(f"; {name} {reason}" for name, reason in sorted(left_out.items()))
        )
    _check_names(jobs)
    return Discovery(tuple(jobs), left_out)


def _find_flat_slides(folder: Path, bin_um: int) -> tuple[list[SpaceRangerSlide], dict[str, str]]:
    """Returns the slides of a flat folder, one a prefix, and why the others of its prefixes are none."""
    jobs: list[SpaceRangerSlide] = []
    left_out: dict[str, str] = {}
    for prefix in find_prefixes(folder):
        kinds = {file.kind for file in find_prefixed_files(folder, prefix).known}
        if "positions" in kinds and kinds & {"h5", "mtx"}:
            jobs.append(SpaceRangerSlide(prefix, folder, bin_um, prefix))
        elif kinds & {"positions", "h5", "mtx"}:
            missing = "tissue_positions file" if "positions" not in kinds else "count matrix"
            left_out[prefix] = f"has no {missing} of its prefix in {folder} (an archive is not unpacked)"
    return jobs, left_out


def _check_names(jobs: list[SpaceRangerSlide]) -> None:
    """Refuse two slides of one name."""
    names = [job.name for job in jobs]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        where = ", ".join(str(job.folder) for job in jobs if job.name == repeated[0])
        raise ConfigError(f"two slides are named {repeated[0]!r}, in {where}; rename one of the folders or prefixes")


@dataclass(frozen=True)
class SpaceRangerSlide:
    """One slide; see SlideJob.

    Attributes:
        name: its folder's or its prefix.
        folder: where its files lie.
        bin_um: side of the bins that are read (Visium HD).
        prefix: of its files in a flat folder, '' where the folder is the slide's.
    """

    name: str
    folder: Path
    bin_um: int = 16
    prefix: str = ""

    def _find_files(self) -> SpaceRangerFiles:
        if self.prefix:
            return find_prefixed_files(self.folder, self.prefix)
        return find_slide_files(self.name, self.folder, self.bin_um)

    def files(self) -> tuple[Path, ...]:
        files = self._find_files()
        image, _ = self._find_image(files, self._read_factors(files))
        further = (files.one("scale_factors"), files.one("probe_set"))
        return (*files.matrix().paths, files.positions(), image.path, *(path for path in further if path is not None))

    def genes(self) -> GeneNames:
        return self._find_files().matrix().read_features(self.name).genes

    def read(self) -> Slide:
        files = self._find_files()
        source = files.matrix()
        matrix, positions = source.read(self.name), read_positions(files.positions(), self.name)
        factors = self._read_factors(files)
        image, image_notes = self._find_image(files, factors)
        places, notes = match_barcodes(
            self.name, matrix.barcodes, positions.index, source.counts.name, files.positions().name
        )
        kept, spot_notes = self._select_under_tissue(places, positions, files.positions().name, source.raw)
        spots, barcodes = positions.iloc[places[kept]], matrix.barcodes[kept]
        array = identify_array(self.name, barcodes, source.counts.name)
        claimed = factors.optional("microns_per_pixel") if factors else None
        genes = matrix.features.genes
        slide = Slide(
            name=self.name,
            source="space_ranger",
            patient="",
            barcodes=barcodes,
            xy=spots[["x", "y"]].to_numpy(np.float64),
            counts=matrix.counts[kept],
            gene_ids=np.array(genes.ids, dtype=object),
            gene_symbols=np.array(genes.symbols, dtype=object),
            image=image,
            pitch_um=array.pitch_um,
            spot_um=array.spot_um,
            lattice=array.lattice,
            grid=spots[["array_col", "array_row"]].to_numpy(np.int32),
            technology=array.technology,
            um_per_px_claims={} if claimed is None else {"metadata": claimed},
            spot_px=factors.optional("spot_diameter_fullres") if factors else None,
            notes=(
                *files.notes,
                *matrix.features.notes,
                *notes,
                *spot_notes,
                *self._note_panel(files, len(genes)),
                *image_notes,
            ),
        )
        return self._note_cytassist(slide, files, len(positions))

    def _select_under_tissue(
        self, places: np.ndarray, positions: pd.DataFrame, where: str, raw: bool
    ) -> tuple[np.ndarray, tuple[str, ...]]:
        """Returns bool [N]: the matrix's spots that have a position under tissue; and notes."""
        tissue = positions.in_tissue.to_numpy() == 1
        known = places >= 0
        kept = known & tissue[places]
        if not kept.any():
            raise SlideError(
                self.name, f"{where}: none of the matrix's {len(places)} spots has in_tissue 1, so none is left"
            )
        notes = []
        if raw:
            notes.append(f"raw matrix: {int((known & ~kept).sum())} spots off the tissue left out by in_tissue")
        elif (known & ~kept).any():
            notes.append(f"{int((known & ~kept).sum())} spots of the matrix are not in tissue and left out")
        if not known.all():
            notes.append(f"{int((~known).sum())} spots of the matrix have no position and are left out")
        without = int(tissue.sum()) - int(kept.sum())
        off = int((known & ~kept).sum())
        if not raw and min(off / max(int(known.sum()), 1), without / max(int(tissue.sum()), 1)) > FOREIGN:
            raise SlideError(
                self.name,
                f"{where}: {off} of the filtered matrix's {len(places)} spots are not in tissue, and {without} spots "
                f"in tissue are not in the matrix. Are the positions another slide's?",
            )
        if without:
            notes.append(f"{without} spots in tissue are not in the matrix")
        return kept, tuple(notes)

    def _read_factors(self, files: SpaceRangerFiles) -> ScaleFactors | None:
        path = files.one("scale_factors")
        return None if path is None else read_scale_factors(path, self.name)

    def _find_image(self, files: SpaceRangerFiles, factors: ScaleFactors | None) -> tuple[SlideImage, tuple[str, ...]]:
        """Returns the full-resolution image, else the finer of the two tissue images, which is noted."""
        places = ", ".join(map(str, files.full_places))
        if len(files.full) > 1:
            raise SlideError(self.name, f"several full-resolution images, keep one: {', '.join(map(str, files.full))}")
        if files.full:
            return SlideImage(files.full[0], "fullres"), ()
        image = find_tissue_image(self.name, files.one("hires"), files.one("lowres"), factors)
        if image is None:
            raise SlideError(
                self.name,
                f"has no image: neither *image*{{{','.join(IMAGE_SUFFIXES)}}} in {places} nor tissue_hires_image.png "
                f"or tissue_lowres_image.png in {', '.join(map(str, files.places))}",
            )
        return image, (f"image: {image.path.name}, {image.scale:.4g} of full resolution; no full-resolution image",)

    def _note_panel(self, files: SpaceRangerFiles, genes: int) -> tuple[str, ...]:
        """Note whether probes looked for the genes: then one without a column was not measured, and is not zero."""
        path = files.one("probe_set")
        if path is not None:
            with explain_damage(self.name, path):
                head = read_plain(path)[:2000].decode("utf-8", errors="replace")
            named = re.search(r"^#panel_name=(.+?),*$", head, re.MULTILINE)
            panel = named.group(1).strip() if named else path.name
        elif genes in PROBE_PANELS:
            panel = f"{PROBE_PANELS[genes]}, by the number of genes"
        else:
            return ()
        return (f"probe panel ({panel}): {genes} genes, the others were not measured",)

    def _note_cytassist(self, slide: Slide, files: SpaceRangerFiles, array_spots: int) -> Slide:
        picture = files.one("cytassist")
        if picture is None and array_spots != CYTASSIST_SPOTS:
            return slide
        notes = [f"CytAssist run, array of {array_spots} spots"]
        if picture is not None:
            notes.append(f"{picture.name} (eosin only, 3,000 px) not used as image")
        if len(slide) > 1 and slide.um_per_px > COARSE_UM_PER_PX:
            notes.append(
                f"its full-resolution frame has {slide.um_per_px:.2g} um a pixel: Space Ranger had the CytAssist's "
                f"picture alone, and the tissue images are reductions of that, not of the H&E"
            )
        return replace(slide, notes=(*slide.notes, *notes))
