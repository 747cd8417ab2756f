"""The arrays of spots that 10x sells, told by the barcodes."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from data_prep.slide.slide import Lattice, SlideError

BIN = re.compile(r"^s_(\d+)um_")
"""How Visium HD names a bin: s_016um_00269_00526-1."""

LEGACY = re.compile(r"^\d+[x_]\d+$")
"""How legacy spatial transcriptomics names a spot: 10x13."""


@dataclass(frozen=True)
class SpotArray:
    """Nominal geometry of an array; see Slide.

    Attributes:
        technology: 'Visium' or 'Visium HD'.
        pitch_um: distance of nearest spots in micrometres.
        spot_um: diameter or side of a spot in micrometres.
        lattice: kind of the array.
    """

    technology: str
    pitch_um: float
    spot_um: float
    lattice: Lattice


VISIUM = SpotArray("Visium", 100.0, 55.0, "hex")


def identify_array(slide_name: str, barcodes: np.ndarray, origin: str) -> SpotArray:
    """Tell the array by the barcodes: Visium HD where they are bins (square, side to side), else Visium.

    Args:
        slide_name: for messages.
        barcodes: [N] str.
        origin: the file, for messages.

    Raises:
        SlideError: bins of several sizes, or the spots of a legacy array, which is another geometry.
    """
    first = str(barcodes[0]) if len(barcodes) else ""
    if LEGACY.match(first):
        raise SlideError(
            slide_name,
            f"{origin}: spots named like {first!r} are of a legacy spatial transcriptomics array (200 um apart), not "
            f"of Visium; read them with source legacy_st or hest",
        )
    found = BIN.match(first)
    if not found:
        return VISIUM
    odd = ~np.char.startswith(barcodes.astype(str), found.group())
    if odd.any():
        raise SlideError(
            slide_name, f"{origin}: holds bins of several sizes, such as {first!r} and {barcodes[odd][0]!r}"
        )
    side = float(found.group(1))
    return SpotArray("Visium HD", side, side, "square")


PITCH_UM, SPOT_UM = 200.0, 100.0


def is_dense(x: np.ndarray, y: np.ndarray) -> bool:
    """Whether places [N] on the array are those of a denser array, where x + y is even (or odd) everywhere."""
    return len(np.unique((x + y) % 2)) == 1


def make_square_grid(x: np.ndarray, y: np.ndarray, dense: bool) -> np.ndarray:
    """Returns [N, 2] (column, row) with nearest spots one step apart; a dense array's rows run along the diagonals."""
    return np.stack([(x + y) // 2, (y - x) // 2] if dense else [x, y], axis=1)
