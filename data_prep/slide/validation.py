"""What a slide must satisfy before a shard is made of it. Every reader's slide passes here, and nothing else checks."""

from __future__ import annotations

from collections import Counter

import numpy as np
from scipy import sparse

from data_prep.slide.catalogue import translate_species
from data_prep.slide.slide import Slide, SlideError
from stalign_pl.gene_ids import SPECIES_PREFIXES, species_of

MAX_COUNT = 2**24
"""Counts must stay below this: the loader adds them up in float32, which is exact to here."""

Matrix = np.ndarray | sparse.csr_matrix | sparse.csc_matrix | sparse.csr_array | sparse.csc_array
"""[spots, genes] as readers get it from files."""


def shape_of(matrix: sparse.csr_matrix | sparse.csc_matrix) -> tuple[int, int]:
    """Returns the numbers of rows and columns of a matrix."""
    rows, columns = matrix.shape  # pyright: ignore[reportGeneralTypeIssues]  # scipy's is None before __init__ alone
    return rows, columns


def check_whole_counts(slide_name: str, matrix: Matrix, origin: str) -> sparse.csr_matrix:
    """Returns raw counts as canonical CSR int32; refuses rather than rounds.

    Args:
        slide_name: for the message.
        matrix: [N, G] counts of any dtype, sparse or dense.
        origin: the file or field, for the message.

    Raises:
        SlideError: no numbers, or a value that is NaN, negative, fractional or too large; names the first one's row and
            column.
    """
    if matrix.dtype.kind not in "biuf":
        raise SlideError(slide_name, f"{origin}: holds {matrix.dtype}; raw counts are wanted")
    counts = sparse.csr_matrix(matrix)
    values = counts.data
    wrong = ~np.isfinite(values) | (values < 0) | (values != np.floor(values)) | (values >= MAX_COUNT)
    if wrong.any():
        first = int(np.flatnonzero(wrong)[0])
        row = int(np.searchsorted(counts.indptr, first, side="right")) - 1
        raise SlideError(
            slide_name,
            f"{origin}: {int(wrong.sum())} values are not counts; the first is {values[first]} at spot row {row}, gene "
            f"column {int(counts.indices[first])}. Raw counts are wanted: whole numbers from 0 to {MAX_COUNT - 1}, "
            f"not normalised or log values",
        )
    whole = sparse.csr_matrix((values.astype(np.int32), counts.indices, counts.indptr), shape=counts.shape)
    whole.sum_duplicates()
    whole.eliminate_zeros()
    return whole


def validate(slide: Slide) -> None:
    """Check what the later steps rely on.

    Raises:
        SlideError: axes of different length, gene ids of another species, no spot, one spot, a repeated barcode, a
            position that is not finite, a lattice that is none, or a negative or absurd scale.
    """
    _check_axes(slide)
    _check_species(slide)
    _check_spots(slide)
    _check_grid(slide)
    if not slide.pitch_px > 0:  # itself an error where there is a single spot
        raise SlideError(slide.name, "spots lie on one another: the median distance of nearest spots is 0 pixels")
    for column, values in slide.labels.items():
        if len(values) != len(slide):
            raise SlideError(slide.name, f"label column {column!r} has {len(values)} values for {len(slide)} spots")


def _check_axes(slide: Slide) -> None:
    spots, genes = shape_of(slide.counts)
    if spots != len(slide.barcodes) or slide.xy.shape != (len(slide.barcodes), 2):
        raise SlideError(
            slide.name,
            f"axes disagree: counts {slide.counts.shape}, {len(slide.barcodes)} barcodes, positions {slide.xy.shape}",
        )
    if genes != len(slide.gene_ids) or genes != len(slide.gene_symbols):
        raise SlideError(
            slide.name,
            f"axes disagree: {genes} columns of counts, {len(slide.gene_ids)} gene ids, "
            f"{len(slide.gene_symbols)} gene symbols",
        )
    if spots == 0 or genes == 0 or slide.counts.nnz == 0:
        raise SlideError(slide.name, f"is empty: {spots} spots, {genes} genes, {slide.counts.nnz} counts above zero")


def _check_species(slide: Slide) -> None:
    """Refuse gene ids that are mostly of another species than the slide; a mixture (a xenograft) passes."""
    stated = translate_species(slide.species)
    if stated not in SPECIES_PREFIXES:
        return
    found = Counter(species_of(str(gene)) for gene in slide.gene_ids if gene)
    for species, number in found.items():
        if species is not None and species != stated and number > found.total() / 2:
            raise SlideError(
                slide.name,
                f"{number} of {found.total()} gene ids are of {species} ({SPECIES_PREFIXES[species]}...), but the "
                f"slide's species is {slide.species!r}. Mend the one or the other (a sheet, slides.csv, may state the "
                f"species)",
            )


def _check_spots(slide: Slide) -> None:
    names, times = np.unique(slide.barcodes, return_counts=True)
    if (times > 1).any():
        repeated = names[times > 1]
        raise SlideError(slide.name, f"{len(repeated)} barcodes occur more than once, such as {str(repeated[0])!r}")
    bad = np.flatnonzero(~np.isfinite(slide.xy).all(axis=1))
    if len(bad):
        raise SlideError(
            slide.name,
            f"{len(bad)} positions are not finite, such as that of {str(slide.barcodes[bad[0]])!r}: "
            f"{slide.xy[bad[0]].tolist()}",
        )


def _check_grid(slide: Slide) -> None:
    if slide.grid is None:
        return
    if slide.grid.shape != (len(slide), 2):
        raise SlideError(slide.name, f"the grid has shape {slide.grid.shape}, not ({len(slide)}, 2)")
    places, times = np.unique(slide.grid, axis=0, return_counts=True)
    if (times > 1).any():
        column, row = places[times > 1][0]
        raise SlideError(slide.name, f"two spots stand at column {column}, row {row} of the grid")
    parity = np.unique(slide.grid.sum(axis=1) % 2)
    if slide.lattice == "hex" and len(parity) > 1:
        raise SlideError(
            slide.name,
            "array_row + array_col is even for some spots and odd for others; on Visium's hexagonal array (columns "
            "counted in half pitches) it is one or the other",
        )
