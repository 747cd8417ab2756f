"""AnnData files (.h5ad): counts in X, positions in obsm['spatial'] or a Space Ranger spatial/ folder beside."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from data_prep.genes import GeneNames, gene_names
from data_prep.slide import Slide, SlideError, SlideImage
from data_prep.sources.job import Discovery, ReaderOptions
from data_prep.sources.labels import clean_labels
from data_prep.sources.spatial_folder import positions_file, read_positions, tissue_image
from data_prep.validation import whole_counts
from stalign_pl.errors import ConfigError

if TYPE_CHECKING:
    import anndata
    import h5py
    import pandas as pd

LABEL_COLUMNS = ("layer", "label", "annotation", "domain")
"""Columns of obs that are taken as labels unless the user names others."""

ID_COLUMNS, SYMBOL_COLUMNS = ("gene_ids",), ("gene_symbols", "symbol")
PITCH_UM, SPOT_UM = 100.0, 55.0


def discover(folder: Path, options: ReaderOptions) -> Discovery:
    """An .h5ad, or a folder of them, or of folders that hold one each. Named after the file.

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
    return Discovery(tuple(AnnDataSlide(path.stem, path, options.labels) for path in files), left_out)


@dataclass(frozen=True)
class AnnDataSlide:
    """One file; see SlideJob. `labels`: columns of obs, empty for those of LABEL_COLUMNS that exist."""

    name: str
    path: Path
    labels: tuple[str, ...] = ()

    @property
    def spatial(self) -> Path:
        return self.path.parent / "spatial"

    def files(self) -> tuple[Path, ...]:
        if not self.spatial.is_dir():
            return (self.path,)
        image = tissue_image(self.spatial, self.name)
        return (self.path, positions_file(self.spatial, self.name), *((image.path,) if image else ()))

    def genes(self) -> GeneNames:
        import anndata
        import h5py

        try:
            with h5py.File(self.path, "r") as file:
                return _gene_names(anndata.io.read_elem(file["var"]))
        except (OSError, KeyError) as error:
            raise SlideError(self.name, f"{self.path} cannot be read as h5ad: {error}") from error

    def read(self) -> Slide:
        import anndata

        try:
            table = anndata.read_h5ad(self.path)
            if sparse.issparse(table.X):
                table.X.check_format(full_check=True)  # scipy dies in C over indices beyond the matrix
        except (OSError, KeyError, ValueError) as error:
            raise SlideError(self.name, f"{self.path} cannot be read as h5ad: {error}") from error
        if "in_tissue" in table.obs:
            table = table[table.obs["in_tissue"].to_numpy() == 1].copy()
        positions = self._positions(table)
        table = table[table.obs_names.isin(positions.index)]
        if table.n_obs == 0 or table.X is None:
            raise SlideError(self.name, f"{self.path}: no spot with counts and a position")
        positions, names = positions.loc[table.obs_names], _gene_names(table.var)
        on_grid = "array_col" in positions.columns
        return Slide(
            name=self.name,
            source="anndata",
            patient="",
            barcodes=table.obs_names.to_numpy(dtype=str),
            xy=positions[["x", "y"]].to_numpy(np.float64),
            counts=whole_counts(self.name, table.X, f"{self.path}: X"),
            gene_ids=np.array(names.ids, dtype=object),
            gene_symbols=np.array(names.symbols, dtype=object),
            image=self._image(),
            pitch_um=PITCH_UM,
            spot_um=SPOT_UM,
            lattice="hex" if on_grid else "none",
            grid=positions[["array_col", "array_row"]].to_numpy(np.int32) if on_grid else None,
            labels=self._labels(table.obs),
            technology="Visium",
        )

    def _positions(self, table: anndata.AnnData) -> pd.DataFrame:
        """x, y (full-res px) and, where known, array_col, array_row; index barcode."""
        import pandas as pd

        beside = read_positions(self.spatial, self.name) if self.spatial.is_dir() else None
        if "spatial" in table.obsm:
            xy = np.asarray(table.obsm["spatial"], dtype=np.float64)
            found = pd.DataFrame(xy[:, :2], index=table.obs_names, columns=["x", "y"])
        elif beside is not None:
            found = beside.loc[table.obs_names[table.obs_names.isin(beside.index)], ["x", "y"]].copy()
        else:
            raise SlideError(self.name, f"{self.path} has no obsm['spatial'], and there is no {self.spatial}")
        grid = table.obs if {"array_row", "array_col"} <= set(table.obs.columns) else beside
        if grid is not None and found.index.isin(grid.index).all():
            found = found.join(grid[["array_col", "array_row"]].astype(int))
        if not found.index.is_unique:
            repeated = found.index[found.index.duplicated()][0]
            raise SlideError(self.name, f"{self.path}: barcode {repeated!r} occurs more than once")
        return found

    def _image(self) -> SlideImage:
        beside = tissue_image(self.spatial, self.name) if self.spatial.is_dir() else None
        if beside is not None:
            return beside
        import h5py

        with h5py.File(self.path, "r") as file:
            libraries = sorted(file["uns/spatial"]) if "uns/spatial" in file else []
            if len(libraries) > 1:
                raise SlideError(
                    self.name, f"{self.path} holds {len(libraries)} slides ({libraries}); one a file is wanted"
                )
            for library in libraries:
                for kind in ("hires", "lowres"):
                    member, key = f"uns/spatial/{library}/images/{kind}", f"scalefactors/tissue_{kind}_scalef"
                    if member in file:
                        return SlideImage(self.path, kind, self._scale(file[f"uns/spatial/{library}"], key), member)
        raise SlideError(
            self.name, f"has no image: neither in {self.spatial} nor in uns['spatial'][...]['images'] of {self.path}"
        )

    def _scale(self, library: h5py.Group, key: str) -> float:
        value = float(library[key][()]) if key in library else float("nan")
        if not np.isfinite(value) or value <= 0:
            raise SlideError(self.name, f"{self.path}: {library.name}/{key} is {value}; a number above 0 is wanted")
        return value

    def _labels(self, obs: pd.DataFrame) -> dict[str, np.ndarray]:
        unknown = [column for column in self.labels if column not in obs.columns]
        if unknown:
            raise SlideError(self.name, f"{self.path} has no label column {unknown[0]!r}; obs has {list(obs.columns)}")
        columns = self.labels or tuple(column for column in LABEL_COLUMNS if column in obs.columns)
        return {column: clean_labels(obs[column].astype(object)) for column in columns}


def _gene_names(var: pd.DataFrame) -> GeneNames:
    names = var.index.astype(str).tolist()
    ids = next((var[column].astype(str).tolist() for column in ID_COLUMNS if column in var.columns), None)
    symbols = next((var[column].astype(str).tolist() for column in SYMBOL_COLUMNS if column in var.columns), None)
    if ids is not None:
        return gene_names(ids, symbols if symbols is not None else names)
    return gene_names(names, symbols)
