"""HEST-1k: an h5ad and a full-resolution image a sample, and one catalogue.

Jaume et al. 2024, github.com/mahmoodlab/HEST; huggingface.co/datasets/MahmoodLab/hest (gated).
"""

from __future__ import annotations

import json
import math
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data_prep.slide.genes import GeneNames, make_gene_names
from data_prep.slide.slide import Slide, SlideError, SlideImage
from data_prep.slide.validation import check_whole_counts
from data_prep.sources.elements import check_indices, list_keys, read_element, read_frame, read_matrix
from data_prep.sources.hdf5 import open_group, read_array
from data_prep.sources.hest.array import find_array
from data_prep.sources.hest.catalogue import HestSample, find_catalogue, read_catalogue, read_samples
from data_prep.sources.job import Discovery, ReaderOptions
from stalign_pl.errors import ConfigError
from stalign_pl.gene_ids import is_ensembl_gene

if TYPE_CHECKING:
    from collections.abc import Iterator

    import h5py
    import pandas as pd

__all__ = ["HestSlide", "discover", "find_catalogue", "read_catalogue"]

IMAGE, SCALE = "images/downscaled_fullres", "scalefactors/tissue_downscaled_fullres_scalef"
"""The reduced image inside the h5ad, and its pixels per full-resolution pixel; under uns/spatial/<library>/."""

PIXEL_SIZE = "pixel_size_um_estimated"


def discover(folder: Path, options: ReaderOptions) -> Discovery:
    """Find the samples of a download, whole or partial: st/<id>.h5ad, wsis/<id>.tif, metadata/<id>.json.

    A sample without its image is read with the reduced one inside its h5ad. Left out, with the reason: samples without
    an h5ad, and h5ad files that the catalogue does not list.

    Raises:
        ConfigError: no catalogue, a damaged one, or an option that this source does not have.
    """
    if options.labels:
        raise ConfigError("source hest has no label columns to choose; give labels by a sheet (slides.csv)")
    samples = read_samples(options.catalogue or find_catalogue(folder))
    present = {path.stem for path in (folder / "st").glob("*.h5ad")}
    jobs = []
    for name in sorted(samples.keys() & present):
        image, metadata = folder / "wsis" / f"{name}.tif", folder / "metadata" / f"{name}.json"
        jobs.append(
            HestSlide(
                name,
                samples[name],
                folder / "st" / f"{name}.h5ad",
                image if image.is_file() else None,
                metadata if metadata.is_file() else None,
            )
        )
    left_out = {name: f"has no st/{name}.h5ad" for name in samples if name not in present}
    left_out |= {
        name: f"the catalogue does not list it; there is st/{name}.h5ad" for name in sorted(present - samples.keys())
    }
    return Discovery(tuple(jobs), left_out, {name: sample.row for name, sample in samples.items()})


@dataclass(frozen=True)
class HestSlide:
    """One sample's files; see SlideJob.

    Attributes:
        name: the sample's id.
        sample: its row of the catalogue.
        path: its h5ad.
        image: its full-resolution image; None where the download lacks it.
        metadata: its JSON file; None where the download lacks it.
    """

    name: str
    sample: HestSample
    path: Path
    image: Path | None = None
    metadata: Path | None = None

    def files(self) -> tuple[Path, ...]:
        return (self.path, *(path for path in (self.image, self.metadata) if path is not None))

    def genes(self) -> GeneNames:
        with self._open() as file:
            return _name_genes(read_frame(file, "var"))

    def read(self) -> Slide:
        with self._open() as file:
            obs, names, counts = read_frame(file, "obs"), _name_genes(read_frame(file, "var")), read_matrix(file, "X")
            check_indices(counts)
            xy = np.asarray(read_element(file, "obsm/spatial"), dtype=np.float64)
            image, image_notes = self._find_image(file)
        if xy.shape != (len(obs), 2) or not np.isfinite(xy).all():
            raise SlideError(
                self.name,
                f"{self.path}: obsm['spatial'] has shape {xy.shape} for {len(obs)} spots, or holds values that are "
                f"not finite; [spots, 2] is wanted, x and y in full-resolution pixels",
            )
        row, claims = self.sample.row, self._read_claims()
        array = find_array(self.name, self.sample, xy, obs, claims)
        return Slide(
            name=self.name,
            source="hest",
            patient=row.patient,
            barcodes=obs.index.to_numpy(dtype=str),
            xy=xy,
            counts=check_whole_counts(self.name, counts, f"{self.path}: X"),
            gene_ids=np.array(names.ids, dtype=object),
            gene_symbols=np.array(names.symbols, dtype=object),
            image=image,
            pitch_um=array.pitch_um,
            spot_um=array.spot_um,
            lattice=array.lattice,
            grid=array.grid,
            study=row.study,
            species=row.species,
            tissue=row.tissue,
            technology=row.technology,
            licence=row.licence,
            um_per_px_claims=claims,
            notes=(*image_notes, *array.notes),
        )

    @contextmanager
    def _open(self) -> Iterator[h5py.File]:
        """Open the h5ad; whatever is wrong with it becomes a SlideError that names it."""
        import h5py

        try:
            with h5py.File(self.path, "r") as file:
                yield file
        except (OSError, KeyError, ValueError) as error:
            raise SlideError(self.name, f"{self.path} cannot be read as h5ad: {error}") from error

    def _read_claims(self) -> dict[str, float]:
        """Returns what says so -> um per px: the catalogue, and the sample's own metadata file."""
        catalogue = self.sample.row.um_per_px
        claims = {} if catalogue is None else {"catalogue": catalogue}
        if self.metadata is None:
            return claims
        try:
            said = json.loads(self.metadata.read_text(encoding="utf-8-sig"))
        except (OSError, ValueError) as error:
            raise SlideError(self.name, f"{self.metadata} cannot be read as JSON: {error}") from error
        value = said.get(PIXEL_SIZE) if isinstance(said, dict) else said
        if value is None or value != value:  # absent, or NaN as pandas writes it
            return claims
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
            raise SlideError(self.name, f"{self.metadata}: {PIXEL_SIZE} is {value!r}; a number above 0 is wanted")
        return {**claims, "metadata": float(value)}

    def _find_image(self, file: h5py.File) -> tuple[SlideImage, tuple[str, ...]]:
        """Returns the full-resolution image, else the reduced one inside the h5ad, which is noted."""
        if self.image is not None:
            return SlideImage(self.image, "fullres"), ()
        for library in list_keys(file, "uns/spatial"):
            group = open_group(file, f"uns/spatial/{library}")
            if IMAGE in group and SCALE in group:
                scale = float(read_array(group, SCALE))
                if not 0 < scale < math.inf:
                    raise SlideError(
                        self.name, f"{self.path}: {group.name}/{SCALE} is {scale}; a number above 0 is wanted"
                    )
                note = f"there is no wsis/{self.name}.tif, so crops come from the reduced image inside the h5ad"
                return SlideImage(self.path, "lowres", scale, f"uns/spatial/{library}/{IMAGE}"), (note,)
        raise SlideError(
            self.name,
            f"has no image: neither wsis/{self.name}.tif nor uns['spatial'][...]['images']['downscaled_fullres'] with "
            f"its scale factor in {self.path}",
        )


def _name_genes(var: pd.DataFrame) -> GeneNames:
    """Returns symbols, or Ensembl ids in a few samples; both where the sample kept the ids of its matrix."""
    names = var.index.astype(str).tolist()
    if "gene_ids" not in var.columns:
        return make_gene_names(names)
    ids = var["gene_ids"].astype(str).tolist()
    return make_gene_names(
        [gene if is_ensembl_gene(gene) else name for gene, name in zip(ids, names, strict=True)], names
    )
