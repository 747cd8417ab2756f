"""Barcodes of a matrix against those of a positions file, whose suffixes (-1, -2, none) may differ."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from data_prep.slide.slide import SlideError

SUFFIX = re.compile(r"-(\d+)$")


def match_barcodes(
    slide_name: str, barcodes: np.ndarray, known: pd.Index, matrix: str, positions: str
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Find where each barcode of the matrix stands in the positions file.

    Barcodes are compared as they are; where not one agrees, without their suffix, which GEO's copies may have lost or
    changed.

    Args:
        slide_name: for messages.
        barcodes: [N] str, the matrix's.
        known: the positions file's, unique.
        matrix: the matrix's file, for messages.
        positions: the positions file, for messages.

    Returns:
        int64 [N], the place in `known` or -1; and notes.

    Raises:
        SlideError: barcodes of several capture areas (`spaceranger aggr`), or none in common.
    """
    suffixes = sorted({found.group(1) for found in map(SUFFIX.search, barcodes) if found}, key=int)
    if len(suffixes) > 1:
        raise SlideError(
            slide_name,
            f"{matrix} holds the spots of {len(suffixes)} capture areas (barcodes end in "
            f"{', '.join('-' + suffix for suffix in suffixes)}), as `spaceranger aggr` writes them; give each slide's "
            f"own folder, from `spaceranger count`, instead",
        )
    places = known.get_indexer(pd.Index(barcodes))
    if (places >= 0).any():
        return places, ()
    stems = known.str.replace(SUFFIX, "", regex=True)
    if len(stems) and stems.is_unique:
        places = stems.get_indexer(pd.Index(barcodes).str.replace(SUFFIX, "", regex=True))
    if not (places >= 0).any():
        both = f"{str(barcodes[0])!r} against {str(known[0])!r}" if len(barcodes) and len(known) else "empty"
        raise SlideError(slide_name, f"no barcode of {matrix} is among the {len(known)} spots of {positions} ({both})")
    first = int(np.flatnonzero(places >= 0)[0])
    return places, (
        f"barcodes of the matrix and the positions were matched without their suffix ({barcodes[first]} and "
        f"{known[places[first]]})",
    )
