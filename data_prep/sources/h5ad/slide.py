"""AnnData files (.h5ad) as scanpy and squidpy write them, or with a Space Ranger spatial/ folder beside."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data_prep.slide.genes import GeneNames
from data_prep.slide.slide import Slide, SlideError
from data_prep.slide.validation import check_whole_counts
from data_prep.sources.elements import as_frame, check_indices, read_frame
from data_prep.sources.h5ad.frames import read_frame_genes, read_frame_grid, read_frame_labels, select_tissue
from data_prep.sources.h5ad.library import LIBRARY_COLUMN, LibraryPictures, read_libraries
from data_prep.sources.h5ad.raw_counts import describe_counts, find_counts, find_counts_on_disk, take_counts
from data_prep.sources.job import Discovery, ReaderOptions
from data_prep.sources.reading import explain_damage
from data_prep.sources.space_ranger.barcodes import match_barcodes
from data_prep.sources.space_ranger.files import find_spatial_files
from data_prep.sources.space_ranger.spatial_folder import read_positions
from data_prep.sources.spot_array import identify_array
from stalign_pl.errors import ConfigError

if TYPE_CHECKING:
    import anndata
    import pandas as pd

PIXEL_COLUMNS = ("pxl_col_in_fullres", "pxl_row_in_fullres")
"""x and y, where obs kept Space Ranger's columns."""


def discover(folder: Path, options: ReaderOptions) -> Discovery:
    """Find the slides of an .h5ad, or a folder of them, or of folders that hold one each. Named after the file.

    A file of several slides (several keys in uns['spatial'] and obs['library_id']) gives one slide a library, named
    <file>_<library>.

    Raises:
        ConfigError: there is none.
    """
    if folder.is_file():
        files = [folder] if folder.suffix == ".h5ad" else []
        left_out: dict[str, str] = {}
    else:
        files, left_out = sorted(folder.glob("*.h5ad")), {}
        for inner in sorted(path for path in folder.iterdir() if path.is_dir()):
            found = sorted(inner.glob("*.h5ad"))
            if len(found) == 1:
                files += found
            elif found:
                left_out[inner.name] = f"holds {len(found)} h5ad files, so whose spatial/ it is cannot be told"
    if not files:
        raise ConfigError(
            f"{folder} holds no AnnData slide: wanted an .h5ad, or a folder of them or of folders with one each"
        )
    jobs = []
    for path in files:
        found, missing = _find_slides(path, options.labels)
        jobs += found
        left_out |= missing
    return Discovery(tuple(jobs), left_out)


def _find_slides(path: Path, labels: tuple[str, ...]) -> tuple[list[AnnDataSlide], dict[str, str]]:
    try:
        libraries = read_libraries(path.stem, path)
    except SlideError:
        return [AnnDataSlide(path.stem, path, labels)], {}  # named when its header is read
    if len(libraries.names) < 2 or not libraries.column:
        return [AnnDataSlide(path.stem, path, labels)], {}
    jobs = [
        AnnDataSlide(f"{path.stem}_{library}", path, labels, library)
        for library in libraries.names
        if library in libraries.used
    ]
    left_out = {
        f"{path.stem}_{library}": f"has no entry in uns['spatial'] of {path}, so no image"
        for library in libraries.used
        if library not in libraries.names
    }
    return jobs, left_out


@dataclass(frozen=True)
class AnnDataSlide:
    """One slide of a file; see SlideJob.

    Attributes:
        name: see `discover`.
        path: the h5ad.
        labels: columns of obs, empty for those of LABEL_COLUMNS that exist.
        library: its value in obs['library_id'], '' where the file holds a single slide.
    """

    name: str
    path: Path
    labels: tuple[str, ...] = ()
    library: str = ""

    @property
    def spatial(self) -> Path | None:
        """Returns Space Ranger's folder beside the file, where it can be no other file's."""
        folder = self.path.parent / "spatial"
        alone = len(list(self.path.parent.glob("*.h5ad"))) == 1
        return folder if folder.is_dir() and alone and not self.library else None

    def files(self) -> tuple[Path, ...]:
        image, _ = self._find_pictures().image()
        beside = ()
        if self.spatial is not None:
            found = find_spatial_files(self.name, self.spatial)
            beside = tuple(path for path in map(found.one, ("positions", "scale_factors")) if path is not None)
        return tuple(dict.fromkeys((self.path, *beside, image.path)))

    def genes(self) -> GeneNames:
        import anndata
        import h5py

        with explain_damage(self.name, self.path, "h5ad"), h5py.File(self.path, "r") as file:
            if isinstance(file["var"], h5py.Group):
                place = find_counts_on_disk(self.name, str(self.path), file)
                return read_frame_genes(read_frame(file, "raw/var" if place == "raw.X" else "var"))
        with explain_damage(
            self.name, self.path, "h5ad"
        ):  # before anndata 0.7, var was a compound array: leave it to anndata
            table = anndata.read_h5ad(self.path)
            return read_frame_genes(take_counts(table, find_counts(self.name, str(self.path), table))[1])

    def read(self) -> Slide:
        import anndata

        with explain_damage(self.name, self.path, "h5ad"):
            table = anndata.read_h5ad(self.path)
            place = find_counts(self.name, str(self.path), table)
            check_indices(take_counts(table, place)[0])
        if self.library:
            table = table[(table.obs[LIBRARY_COLUMN].astype(str) == self.library).to_numpy()]
        obs = as_frame(table.obs, "obs")
        positions, position_notes = self._find_positions(table, obs)
        known = table.obs_names.isin(positions.index)
        kept, tissue_notes = select_tissue(self.name, str(self.path), obs, known)
        if not kept.any():
            raise SlideError(self.name, f"{self.path}: no spot with counts, a position and in_tissue 1")
        counts, var = take_counts(table, place)
        barcodes = table.obs_names.to_numpy(dtype=str)[kept]
        array, genes = identify_array(self.name, barcodes, str(self.path)), read_frame_genes(var)
        positions = positions.loc[barcodes]
        grid = read_frame_grid(self.name, str(self.path), positions)
        image, image_notes = self._find_pictures().image()
        return Slide(
            name=self.name,
            source="anndata",
            patient="",
            barcodes=barcodes,
            xy=positions[["x", "y"]].to_numpy(np.float64),
            counts=check_whole_counts(self.name, counts[kept], f"{self.path}: {place}"),
            gene_ids=np.array(genes.ids, dtype=object),
            gene_symbols=np.array(genes.symbols, dtype=object),
            image=image,
            pitch_um=array.pitch_um,
            spot_um=array.spot_um,
            lattice="none" if grid is None else array.lattice,
            grid=grid,
            labels=read_frame_labels(self.name, str(self.path), as_frame(obs[kept], "obs"), self.labels),
            technology=array.technology,
            spot_px=self._find_pictures().spot_px(),
            notes=(*describe_counts(place), *tissue_notes, *position_notes, *image_notes),
        )

    def _find_positions(self, table: anndata.AnnData, obs: pd.DataFrame) -> tuple[pd.DataFrame, tuple[str, ...]]:
        """Returns x, y (full-res px) and, where known, array_col, array_row; index barcode. And notes."""
        import pandas as pd

        if not table.obs_names.is_unique:
            repeated = table.obs_names[table.obs_names.duplicated()][0]
            raise SlideError(self.name, f"{self.path}: barcode {repeated!r} occurs more than once")
        beside, notes = self._read_positions_beside(table)
        if "spatial" in table.obsm:
            with explain_damage(self.name, self.path, "h5ad: obsm['spatial']"):
                xy = np.asarray(table.obsm["spatial"], dtype=np.float64)
            if xy.ndim != 2 or xy.shape[1] < 2:
                raise SlideError(self.name, f"{self.path}: obsm['spatial'] has shape {xy.shape}; [spots, 2] is wanted")
            found = pd.DataFrame(xy[:, :2], index=table.obs_names, columns=pd.Index(["x", "y"]))
        elif set(PIXEL_COLUMNS) <= set(obs.columns):
            found = obs[list(PIXEL_COLUMNS)].astype(float).set_axis(["x", "y"], axis=1)
        elif beside is not None:
            found = beside[["x", "y"]]
        else:
            raise SlideError(
                self.name,
                f"{self.path} has no obsm['spatial'] (it has {sorted(table.obsm)}) nor obs columns "
                f"{PIXEL_COLUMNS}, and there is no {self.path.parent / 'spatial'} that is this file's alone",
            )
        grid = obs if {"array_row", "array_col"} <= set(obs.columns) else beside
        if grid is not None and found.index.isin(grid.index).all():
            found = found.join(grid[["array_col", "array_row"]])
        return as_frame(found, "positions"), notes

    def _read_positions_beside(self, table: anndata.AnnData) -> tuple[pd.DataFrame | None, tuple[str, ...]]:
        """Returns the positions file's rows of the table's spots, under the table's barcodes."""
        if self.spatial is None:
            return None, ()
        path = find_spatial_files(self.name, self.spatial).positions()
        positions, barcodes = read_positions(path, self.name), table.obs_names.to_numpy(dtype=str)
        places, notes = match_barcodes(self.name, barcodes, positions.index, self.path.name, path.name)
        known = places >= 0
        return positions.iloc[places[known]].set_axis(barcodes[known], axis=0), notes

    def _find_pictures(self) -> LibraryPictures:
        libraries = read_libraries(self.name, self.path)
        if len(libraries.names) > 1 and not self.library:
            raise SlideError(
                self.name,
                f"{self.path} holds {len(libraries.names)} slides ({', '.join(libraries.names)}), and obs has no "
                f"column {LIBRARY_COLUMN!r} that tells whose a spot is; give it that column, or one slide a file",
            )
        library = self.library or next(iter(libraries.names), "")
        return LibraryPictures(self.name, self.path, library, self.spatial)
