"""Legacy spatial transcriptomics: the her2st folders, and flat folders of the same tables.

The arrays have 100 um spots, 200 um apart on a square lattice. The later, denser arrays have a second such lattice in
the gaps (x + y is even everywhere): together a square lattice turned by 45 degrees, 200 / sqrt(2) um apart.
"""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from data_prep.genes import GeneNames, gene_names
from data_prep.slide import Slide, SlideError, SlideImage
from data_prep.sources.job import Discovery, ReaderOptions
from data_prep.sources.labels import clean_labels
from data_prep.validation import whole_counts
from stalign_pl.errors import ConfigError

PITCH_UM, SPOT_UM = 200.0, 100.0
ALIGNMENT = "alignment_table_"
UNDETERMINED = "undetermined"
"""The pathologist could not say: no region of its own, so the spot counts as unlabelled."""


def discover(folder: Path, options: ReaderOptions) -> Discovery:
    """The sections of a her2st folder (data/ST-cnts, ...) or of a flat one (alignment_table_X.tsv, X.tsv.gz, X.jpg).

    Sections without an image or spot file are left out, with the reason. The patient of a her2st section is its letter.

    Raises:
        ConfigError: neither layout, or an option that this source does not have.
    """
    if options.labels:
        raise ConfigError("source legacy_st has no label columns to choose; give labels by a sheet (slides.csv)")
    root = next((path for path in (folder, folder / "data") if (path / "ST-cnts").is_dir()), None)
    if root is not None:
        return _her2st(root)
    tables = sorted(folder.glob(f"{ALIGNMENT}*.tsv"))
    if not tables:
        raise ConfigError(
            f"{folder} holds no legacy ST section: wanted data/ST-cnts (the her2st folders) or "
            f"{ALIGNMENT}<section>.tsv beside <section>.tsv.gz and <section>.jpg"
        )
    jobs, left_out = [], {}
    for spots in tables:
        name = spots.stem.removeprefix(ALIGNMENT)
        counts, image = folder / f"{name}.tsv.gz", folder / f"{name}.jpg"
        missing = [path.name for path in (counts, image) if not path.is_file()]
        if missing:
            left_out[name] = f"has no {' and no '.join(missing)}"
        else:
            jobs.append(LegacySection(name, "", counts, spots, image))
    return Discovery(tuple(jobs), left_out)


def _her2st(root: Path) -> Discovery:
    jobs, left_out = [], {}
    for counts in sorted((root / "ST-cnts").glob("*.tsv.gz")):
        name = counts.name.removesuffix(".tsv.gz")
        images = sorted((root / "ST-imgs" / name[0] / name).glob("*.jpg"))
        spots = root / "ST-spotfiles" / f"{name}_selection.tsv"
        labels = root / "ST-pat" / "lbl" / f"{name}_labeled_coordinates.tsv"
        if len(images) != 1:
            left_out[name] = f"has {'no image' if not images else f'{len(images)} images'} in ST-imgs/{name[0]}/{name}"
        elif not spots.is_file():
            left_out[name] = f"has no spot file ST-spotfiles/{spots.name}"
        else:
            jobs.append(LegacySection(name, name[0], counts, spots, images[0], labels if labels.is_file() else None))
    return Discovery(tuple(jobs), left_out)


def unrepeated(columns: Sequence[str]) -> list[str]:
    """Undo R's make.unique: X.1 becomes X where X is a column too. A clone's name (FO538757.1) has no such base."""
    present = set(columns)
    names = []
    for column in columns:
        base, dot, suffix = column.rpartition(".")
        names.append(base if dot and suffix.isdigit() and base in present else column)
    return names


def is_dense(x: np.ndarray, y: np.ndarray) -> bool:
    """Whether places [N] on the array are those of a denser array, where x + y is even (or odd) everywhere."""
    return len(np.unique((x + y) % 2)) == 1


def square_grid(x: np.ndarray, y: np.ndarray, dense: bool) -> np.ndarray:
    """[N, 2] (column, row) with nearest spots one step apart; a dense array's rows run along the diagonals."""
    return np.stack([(x + y) // 2, (y - x) // 2] if dense else [x, y], axis=1)


@dataclass(frozen=True)
class LegacySection:
    """One section's files; see SlideJob."""

    name: str
    patient: str
    counts: Path
    spots: Path
    image: Path
    labels: Path | None = None

    def files(self) -> tuple[Path, ...]:
        return (self.counts, self.spots, self.image, *((self.labels,) if self.labels else ()))

    def genes(self) -> GeneNames:
        try:
            with gzip.open(self.counts, "rt", encoding="utf-8") as file:
                columns = file.readline().rstrip("\n").split("\t")[1:]
        except (OSError, EOFError, ValueError, zlib.error) as error:
            raise SlideError(self.name, f"{self.counts} cannot be read: {error}") from error
        return gene_names(unrepeated([column.strip('"') for column in columns]))

    def read(self) -> Slide:
        try:
            table = pd.read_csv(self.counts, sep="\t", index_col=0)
        except (OSError, EOFError, ValueError, zlib.error) as error:
            raise SlideError(self.name, f"{self.counts} cannot be read: {error}") from error
        if not table.index.is_unique:
            repeated = table.index[table.index.duplicated()][0]
            raise SlideError(self.name, f"{self.counts}: spot {repeated!r} occurs more than once")
        spots = self._spots()
        common = table.index[table.index.isin(spots.index)]
        if common.empty:
            raise SlideError(
                self.name,
                f"no spot of {self.counts.name} is in {self.spots.name}: {table.index[:1].tolist()} against "
                f"{spots.index[:1].tolist()} (spots are named <x>x<y>)",
            )
        wrong = [str(column) for column, kind in table.dtypes.items() if kind.kind not in "iuf"]
        if wrong:
            raise SlideError(self.name, f"{self.counts}: column {wrong[0]!r} does not hold numbers")
        dense = is_dense(spots.x.to_numpy(), spots.y.to_numpy())
        spots, names = spots.loc[common], self.genes()
        x, y = spots.x.to_numpy(np.int32), spots.y.to_numpy(np.int32)
        return Slide(
            name=self.name,
            source="legacy_st",
            patient=self.patient,
            barcodes=common.to_numpy(dtype=str),
            xy=spots[["pixel_x", "pixel_y"]].to_numpy(np.float64),
            counts=whole_counts(self.name, table.loc[common].to_numpy(), str(self.counts)),
            gene_ids=np.array(names.ids, dtype=object),
            gene_symbols=np.array(names.symbols, dtype=object),
            image=SlideImage(self.image, "fullres"),
            pitch_um=PITCH_UM / math.sqrt(2) if dense else PITCH_UM,
            spot_um=SPOT_UM,
            lattice="square",
            grid=square_grid(x, y, dense),
            absent_is_zero=True,
            labels=self._labels(common),
            technology="Spatial Transcriptomics",
        )

    def _table(self, path: Path) -> pd.DataFrame:
        try:
            return pd.read_csv(path, sep="\t")
        except ValueError as error:
            raise SlideError(self.name, f"{path} cannot be read: {error}") from error

    def _spots(self) -> pd.DataFrame:
        """Spots under tissue, index `<x>x<y>` as in the counts."""
        table = self._table(self.spots)
        wanted = ["x", "y", "pixel_x", "pixel_y"]
        missing = [column for column in wanted if column not in table.columns]
        if missing:
            raise SlideError(self.name, f"{self.spots} has no columns {missing}; it has {list(table.columns)}")
        if "selected" in table.columns:
            table = table[table.selected == 1]
        return _indexed(table, self.name, self.spots)

    def _labels(self, spots: pd.Index) -> dict[str, np.ndarray]:
        """The pathologist's regions; x and y are fitted array coordinates there (9.02), so they are rounded."""
        if self.labels is None:
            return {}
        table = self._table(self.labels)
        missing = [column for column in ("x", "y", "label") if column not in table.columns]
        if missing:
            raise SlideError(self.name, f"{self.labels} has no columns {missing}; it has {list(table.columns)}")
        table = table.dropna(subset=["x", "y"])
        table = _indexed(table, self.name, self.labels)
        labels = clean_labels(table.label.reindex(spots))
        return {"label": np.where(labels == UNDETERMINED, "", labels)}


def _indexed(table: pd.DataFrame, slide_name: str, path: Path) -> pd.DataFrame:
    x, y = table.x.round().astype(int).astype(str), table.y.round().astype(int).astype(str)
    table = table.set_index(x + "x" + y)
    if not table.index.is_unique:
        raise SlideError(slide_name, f"{path}: spot {table.index[table.index.duplicated()][0]!r} occurs more than once")
    return table
