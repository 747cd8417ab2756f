"""The 10x count matrix: an HDF5 file (Cell Ranger 3 and later) or the three files of a matrix folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import sparse

from data_prep.gzipped import open_plain, unpack_plain
from data_prep.slide.genes import GeneNames, make_gene_names
from data_prep.slide.slide import SlideError
from data_prep.slide.validation import check_whole_counts, shape_of
from data_prep.sources.hdf5 import open_group, read_array, read_texts
from data_prep.sources.reading import explain_damage

if TYPE_CHECKING:
    import h5py

GENE_EXPRESSION = "Gene Expression"


@dataclass(frozen=True)
class Features:
    """The rows of a matrix.

    Attributes:
        expressed: bool, rows that are gene expression (a CytAssist run may hold antibodies too).
        genes: names of those rows.
        notes: what was left out.
    """

    expressed: np.ndarray
    genes: GeneNames
    notes: tuple[str, ...]


@dataclass(frozen=True)
class TenxMatrix:
    """A matrix.

    Attributes:
        barcodes: [N] str.
        counts: [N, G] CSR int32 over `features.genes`.
        features: its genes, and what was left out.
    """

    barcodes: np.ndarray
    counts: sparse.csr_matrix
    features: Features


@dataclass(frozen=True)
class MatrixFiles:
    """Where a matrix is.

    Attributes:
        counts: the HDF5 file, or matrix.mtx[.gz].
        barcodes: barcodes.tsv[.gz] beside matrix.mtx, else None.
        features: features.tsv[.gz] (genes.tsv of old) beside matrix.mtx, else None.
        raw: all spots of the array, not only those under tissue.
    """

    counts: Path
    barcodes: Path | None = None
    features: Path | None = None
    raw: bool = False

    @property
    def paths(self) -> tuple[Path, ...]:
        return tuple(path for path in (self.counts, self.barcodes, self.features) if path is not None)

    def read_features(self, slide_name: str) -> Features:
        """Read the genes alone.

        Raises:
            SlideError: damaged, or not of the wanted form.
        """
        if self.features is not None:
            return self._read_features_tsv(slide_name, self.features)
        with explain_damage(slide_name, self.counts), unpack_plain(self.counts) as path:
            return self._read_features_h5(slide_name, path)

    def read(self, slide_name: str) -> TenxMatrix:
        """Read everything.

        Raises:
            SlideError: damaged, arrays that make no matrix, or values that are not counts.
        """
        if self.features is not None and self.barcodes is not None:
            return self._read_mtx(slide_name, self.barcodes, self.features)
        return self._read_h5(slide_name)

    def _read_features_h5(self, slide_name: str, path: Path) -> Features:
        import h5py

        with h5py.File(path, "r") as file:
            if "matrix/features" not in file:
                raise SlideError(slide_name, f"{self.counts} has no /matrix/features; Cell Ranger 3 or later is wanted")
            features = open_group(file, "matrix/features")
            kinds, ids, symbols = (read_texts(features, key) for key in ("feature_type", "id", "name"))
            genomes = sorted(set(read_texts(features, "genome"))) if "genome" in features else []
        return self._select_genes(slide_name, kinds, ids, symbols, genomes)

    def _read_features_tsv(self, slide_name: str, path: Path) -> Features:
        """Read features.tsv (id, name, type; no header) or genes.tsv (id, name)."""
        with explain_damage(slide_name, path), open_plain(path) as file:
            table = pd.read_csv(file, sep="\t", header=None, dtype=str, keep_default_na=False, quoting=3)
        columns = [table[column].to_numpy(dtype=object) for column in table.columns]
        if len(columns) == 1 and "," in str(columns[0][0]):
            raise SlideError(
                slide_name, f"{path} begins {str(columns[0][0])[:60]!r}; columns separated by tabs are wanted: id, name"
            )
        kinds = columns[2] if len(columns) > 2 else np.full(len(table), GENE_EXPRESSION, dtype=object)
        return self._select_genes(slide_name, kinds, columns[0], columns[1] if len(columns) > 1 else columns[0], [])

    def _select_genes(
        self, slide_name: str, kinds: np.ndarray, ids: np.ndarray, symbols: np.ndarray, genomes: list[str]
    ) -> Features:
        """Returns the rows that are gene expression, of [F] kinds, ids and symbols."""
        expressed = kinds == GENE_EXPRESSION
        if not expressed.any():
            raise SlideError(
                slide_name,
                f"{self.features or self.counts} has no feature of type {GENE_EXPRESSION!r}; "
                f"it has {sorted(set(kinds))}",
            )
        others, times = np.unique(kinds[~expressed].astype(str), return_counts=True)
        notes = [f"left out {count} features of type {kind}" for kind, count in zip(others, times, strict=True)]
        if len([genome for genome in genomes if genome]) > 1:
            notes.append(f"genes of several genomes: {', '.join(genomes)}")
        names = make_gene_names(ids[expressed].tolist(), symbols[expressed].tolist())
        return Features(expressed, names, tuple(notes))

    def _read_h5(self, slide_name: str) -> TenxMatrix:
        import h5py

        with explain_damage(slide_name, self.counts), unpack_plain(self.counts) as path:
            features = self._read_features_h5(slide_name, path)
            with h5py.File(path, "r") as file:
                barcodes = read_texts(file, "matrix/barcodes").astype(str)
                matrix = self._read_sparse(slide_name, file, len(barcodes), len(features.expressed))
            counts = sparse.csr_matrix(matrix[:, np.flatnonzero(features.expressed)])
        return TenxMatrix(barcodes, check_whole_counts(slide_name, counts, str(self.counts)), features)

    def _read_sparse(self, slide_name: str, file: h5py.File, barcodes: int, features: int) -> sparse.csr_matrix:
        """Read `/matrix`, stored gene by spot in columns, as CSR [spots, features].

        Arrays that do not make a sparse matrix are refused: scipy takes them unasked, and the process dies in C.
        """
        data, indices, indptr = (read_array(file, f"matrix/{name}") for name in ("data", "indices", "indptr"))
        genes, spots = (int(side) for side in read_array(file, "matrix/shape"))
        if (genes, spots) != (features, barcodes):
            raise SlideError(
                slide_name,
                f"{self.counts}: shape says {genes} genes and {spots} spots; there are {features} and {barcodes}",
            )
        bounds = len(indptr) == spots + 1 and indptr[0] == 0 and (np.diff(indptr) >= 0).all()
        if not bounds or int(indptr[-1]) != len(data) or len(indices) != len(data):
            raise SlideError(slide_name, f"{self.counts}: indptr, indices and data do not fit {spots} spots")
        if len(data) and not 0 <= int(indices.min()) <= int(indices.max()) < genes:
            raise SlideError(
                slide_name,
                f"{self.counts}: indices run from {indices.min()} to {indices.max()}; there are {genes} genes",
            )
        return sparse.csr_matrix((data, indices, indptr), (spots, genes))

    def _read_mtx(self, slide_name: str, barcodes: Path, features: Path) -> TenxMatrix:
        """Read by scipy's reader, as scanpy.read_10x_mtx does, which takes neither genes.tsv.gz nor features.tsv."""
        from scipy.io import mmread

        rows = self._read_features_tsv(slide_name, features)
        with explain_damage(slide_name, barcodes), open_plain(barcodes) as file:
            names = pd.read_csv(file, sep="\t", header=None, dtype=str)[0].to_numpy(dtype=str)
        with explain_damage(slide_name, self.counts), open_plain(self.counts) as file:
            matrix = sparse.csc_matrix(mmread(file, spmatrix=True))
        features_read, spots_read = shape_of(matrix)
        if (features_read, spots_read) != (len(rows.expressed), len(names)):
            raise SlideError(
                slide_name,
                f"{self.counts} is {features_read} x {spots_read}, but {features.name} has "
                f"{len(rows.expressed)} features and {barcodes.name} {len(names)} barcodes",
            )
        counts = check_whole_counts(slide_name, sparse.csr_matrix(matrix.T)[:, rows.expressed], str(self.counts))
        return TenxMatrix(names, counts, rows)
