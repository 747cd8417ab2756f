"""10x Space Ranger output (Visium): filtered_feature_bc_matrix.h5 and spatial/, the full-resolution image beside."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_prep.genes import GeneNames, gene_names
from data_prep.slide import Slide, SlideError, SlideImage
from data_prep.sources.job import Discovery, ReaderOptions
from data_prep.sources.spatial_folder import positions_file, read_positions, tissue_image
from data_prep.validation import whole_counts
from stalign_pl.errors import ConfigError

MATRIX = "filtered_feature_bc_matrix.h5"
IMAGE_SUFFIXES = (".tif", ".tiff", ".jpg", ".jpeg", ".png", ".btf")
NOT_FULL_RESOLUTION = ("tissue_", "detected_", "aligned_", "cytassist_")
"""Space Ranger's own pictures, should they lie beside the matrix; cytassist_image is eosin only."""

PITCH_UM, SPOT_UM = 100.0, 55.0


def discover(folder: Path, options: ReaderOptions) -> Discovery:
    """A folder with spatial/, or a folder of such folders; each may keep its files in outs/. Named after the folder.

    Raises:
        ConfigError: none is there, or an option that this source does not have.
    """
    if options.labels:
        raise ConfigError("source space_ranger has no label columns to choose; give labels by a sheet (slides.csv)")
    if _outs(folder) is not None:
        return Discovery((SpaceRangerSlide(folder.resolve().name, folder),))
    slides = sorted(path for path in folder.iterdir() if path.is_dir() and _outs(path) is not None)
    if not slides:
        raise ConfigError(
            f"{folder} holds no Space Ranger slide: wanted a folder with spatial/, or a folder of such folders "
            f"(<slide>/spatial or <slide>/outs/spatial)"
        )
    return Discovery(tuple(SpaceRangerSlide(path.name, path) for path in slides))


def _outs(folder: Path) -> Path | None:
    return next((path for path in (folder, folder / "outs") if (path / "spatial").is_dir()), None)


@dataclass(frozen=True)
class SpaceRangerSlide:
    """One slide's folder; see SlideJob."""

    name: str
    folder: Path

    @property
    def outs(self) -> Path:
        return _outs(self.folder) or self.folder

    def files(self) -> tuple[Path, ...]:
        spatial = self.outs / "spatial"
        return (
            self.outs / MATRIX,
            positions_file(spatial, self.name),
            spatial / "scalefactors_json.json",
            self._image().path,
        )

    def genes(self) -> GeneNames:
        import h5py

        try:
            with h5py.File(self._matrix(), "r") as file:
                if "matrix/features" not in file:
                    raise SlideError(
                        self.name, f"{self._matrix()} has no /matrix/features; Cell Ranger 3 or later is wanted"
                    )
                features = file["matrix/features"]
                kinds, ids, symbols = (features[key].asstr()[()] for key in ("feature_type", "id", "name"))
        except (OSError, KeyError) as error:
            raise SlideError(self.name, f"{self._matrix()} cannot be read: {error}") from error
        expressed = kinds == "Gene Expression"
        return gene_names(ids[expressed].tolist(), symbols[expressed].tolist())

    def read(self) -> Slide:
        import scanpy

        self._check_matrix()
        try:
            table = scanpy.read_10x_h5(self._matrix(), gex_only=True)
        except (OSError, KeyError) as error:
            raise SlideError(self.name, f"{self._matrix()} cannot be read: {error}") from error
        positions = read_positions(self.outs / "spatial", self.name)
        barcodes = table.obs_names.to_numpy(dtype=str)
        in_tissue = set(positions.index[positions.in_tissue == 1])
        kept = np.array([barcode in in_tissue for barcode in barcodes], dtype=bool)
        if not kept.any():
            both = len(barcodes) and len(positions)
            example = f"{str(barcodes[0])!r} against {str(positions.index[0])!r}" if both else "empty"
            raise SlideError(
                self.name,
                f"no barcode of {MATRIX} is among the positions file's {len(in_tissue)} in-tissue spots ({example})",
            )
        spots = positions.loc[barcodes[kept]]
        names = gene_names(table.var["gene_ids"].astype(str).tolist(), table.var_names.astype(str).tolist())
        return Slide(
            name=self.name,
            source="space_ranger",
            patient="",
            barcodes=barcodes[kept],
            xy=spots[["x", "y"]].to_numpy(np.float64),
            counts=whole_counts(self.name, table.X[kept], str(self._matrix())),
            gene_ids=np.array(names.ids, dtype=object),
            gene_symbols=np.array(names.symbols, dtype=object),
            image=self._image(),
            pitch_um=PITCH_UM,
            spot_um=SPOT_UM,
            lattice="hex",
            grid=spots[["array_col", "array_row"]].to_numpy(np.int32),
            technology="Visium",
        )

    def _check_matrix(self) -> None:
        """Refuse arrays that do not make a sparse matrix: scipy takes them unasked, and the process dies in C."""
        import h5py

        try:
            with h5py.File(self._matrix(), "r") as file:
                indptr, indices = file["matrix/indptr"][()], file["matrix/indices"][()]
                genes, spots = (int(side) for side in file["matrix/shape"][()])
                values = len(file["matrix/data"])
        except (OSError, KeyError) as error:
            raise SlideError(self.name, f"{self._matrix()} cannot be read: {error}") from error
        bounds = len(indptr) == spots + 1 and indptr[0] == 0 and (np.diff(indptr) >= 0).all()
        if not bounds or int(indptr[-1]) != values or len(indices) != values:
            raise SlideError(self.name, f"{self._matrix()}: indptr, indices and data do not fit {spots} spots")
        if values and not 0 <= int(indices.min()) <= int(indices.max()) < genes:
            raise SlideError(
                self.name,
                f"{self._matrix()}: indices run from {indices.min()} to {indices.max()}; there are {genes} genes",
            )

    def _matrix(self) -> Path:
        path = self.outs / MATRIX
        if not path.is_file():
            raise SlideError(self.name, f"{path} is missing")
        return path

    def _image(self) -> SlideImage:
        """The full-resolution image at the slide folder's top level, else the finer of the two tissue images."""
        full = sorted(
            path
            for top in dict.fromkeys((self.folder, self.outs))
            for path in top.iterdir()
            if path.suffix.lower() in IMAGE_SUFFIXES
            and "image" in path.name.lower()
            and not path.name.lower().startswith(NOT_FULL_RESOLUTION)
        )
        if len(full) > 1:
            raise SlideError(self.name, f"several full-resolution images, keep one: {', '.join(map(str, full))}")
        if full:
            return SlideImage(full[0], "fullres")
        image = tissue_image(self.outs / "spatial", self.name)
        if image is None:
            raise SlideError(
                self.name,
                f"has no image: neither *image*{{{','.join(IMAGE_SUFFIXES)}}} in {self.folder} nor "
                f"tissue_hires_image.png or tissue_lowres_image.png in {self.outs / 'spatial'}",
            )
        return image
