"""Slide: the one in-memory form of a section, whatever file it came from."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from scipy import sparse

from data_prep.slide.spot_tree import find_nearest
from stalign_pl.errors import STAlignError

Lattice = Literal["hex", "square", "none"]
ImageKind = Literal["fullres", "hires", "lowres", "shipped"]
"""`shipped`: a reduced image whose own pixels the positions are given in, so its scale is 1; how far it was reduced is
not known (many of STimage-1K4M)."""


class SlideError(STAlignError):
    """A slide that cannot be used. Names the slide, the file or field, and what is wrong with it."""

    def __init__(self, slide: str, what: str) -> None:
        super().__init__(f"slide {slide!r}: {what}")
        self.slide = slide
        self.what = what


@dataclass(frozen=True)
class SlideImage:
    """The H&E image of a slide.

    Attributes:
        path: an image file; an HDF5 file (h5ad) or a zarr folder that holds the image as an array.
        scale: image pixels per full-resolution pixel (1 for the full-resolution image).
        member: the array's name inside `path` where that is an HDF5 file or a zarr folder, else ''.
    """

    path: Path
    kind: ImageKind
    scale: float = 1.0
    member: str = ""


@dataclass(frozen=True)
class Slide:
    """A section: spots with counts and positions, and the image under them.

    Attributes:
        name: unique in a set; free text.
        barcodes: [N] str, unique in the slide.
        xy: [N, 2] float64, spot centres (x to the right, y down) in full-resolution pixels.
        counts: [N, G] CSR, int32, raw.
        gene_ids: [G] Ensembl ids without version, '' where unknown.
        gene_symbols: [G] symbols, '' where unknown.
        image: the finest image there is.
        pitch_um: nominal distance of nearest spots in micrometres (Visium 100, legacy ST 200).
        spot_um: diameter of a spot (Visium 55, legacy ST 100).
        lattice: kind of the array.
        grid: [N, 2] int32 (column, row) on the array; hex columns count in half pitches, as Visium's array_col does.
            None with lattice "none".
        absent_is_zero: a gene without a column was looked for and not seen (legacy ST drops all-zero genes),
            so the slide measured every gene of its study.
        labels: column name -> [N] str, '' for a spot without a label.
        patient_from: who named the patient, see shard_format.SlideRecord.
        um_per_px_claims: what says so -> micrometres per full-resolution pixel, beside the lattice's own answer
            (`um_per_px`): {"metadata": .5}. Compared with it, see geometry.py.
        spot_px: the spots' diameter in full-resolution pixels as a file gives it, else None. A proxy of the scale
            (Space Ranger's is a theoretical 65 um), never the scale.
        notes: what a reader saw and a report should say: spots that only one of two tables has, columns left out.
    """

    name: str
    source: str
    patient: str
    barcodes: np.ndarray
    xy: np.ndarray
    counts: sparse.csr_matrix
    gene_ids: np.ndarray
    gene_symbols: np.ndarray
    image: SlideImage
    pitch_um: float
    spot_um: float
    lattice: Lattice = "none"
    grid: np.ndarray | None = None
    absent_is_zero: bool = False
    labels: dict[str, np.ndarray] = field(default_factory=dict)
    study: str = ""
    species: str = ""
    tissue: str = ""
    technology: str = ""
    licence: str = ""
    patient_from: str = "source"
    um_per_px_claims: dict[str, float] = field(default_factory=dict)
    spot_px: float | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.barcodes)

    @cached_property
    def lattice_xy(self) -> np.ndarray:
        """[N, 2] float64: positions in pitches; from the grid where there is one, else from pixels."""
        if self.grid is None:
            return self.xy / self.pitch_px
        column, row = self.grid[:, 0].astype(float), self.grid[:, 1].astype(float)
        if self.lattice == "hex":
            return np.stack([column / 2, row * (np.sqrt(3) / 2)], axis=1)
        return np.stack([column, row], axis=1)

    @cached_property
    def pitch_px(self) -> float:
        """Full-resolution pixels a pitch: the median distance to the nearest spot.

        On a lattice only spots with a neighbour one pitch away count, so that a slide with holes is not misread.
        Never from `spot_diameter_fullres`, which is a theoretical 65-70 um (docs of Space Ranger; measured 22 % off).
        """
        if len(self) < 2:
            raise SlideError(self.name, "has a single spot, so its scale (um per pixel) cannot be derived")
        if self.grid is None:
            distance = find_nearest(self.xy, 2)[0][:, 1]
            return float(np.median(distance))
        step, nearest = find_nearest(self.lattice_xy, 2)
        one = np.flatnonzero(np.abs(step[:, 1] - 1) < 0.05)
        if len(one) == 0:  # no two spots side by side: divide by what the lattice says
            one = np.arange(len(self))
        pixels = np.linalg.norm(self.xy[one] - self.xy[nearest[one, 1]], axis=1)
        return float(np.median(pixels / step[one, 1]))

    @property
    def um_per_px(self) -> float:
        """Micrometres per full-resolution pixel."""
        return self.pitch_um / self.pitch_px
