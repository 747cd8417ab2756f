"""The array under a HEST-1k sample's spots: from its columns where they are true, else from the positions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial import KDTree

from data_prep.slide.lattice_fit import fit_lattice, measure_grid_residual
from data_prep.slide.slide import Lattice, SlideError
from data_prep.sources.hest.catalogue import HestSample
from data_prep.sources.spot_array import PITCH_UM as ST_PITCH_UM
from data_prep.sources.spot_array import SPOT_UM as ST_SPOT_UM
from data_prep.sources.spot_array import is_dense, make_square_grid

if TYPE_CHECKING:
    import pandas as pd

PITCH_UM = {"Visium": 100.0, "ST": ST_PITCH_UM}
SPOT_UM = {"Visium": 55.0, "ST": ST_SPOT_UM}
"""Where the catalogue gives no pitch or spot. Xenium and Visium HD samples hold square pseudo-spots that HEST pooled;
their pitch is measured, the catalogue's 2 um are the bins before pooling."""

MISFIT = 0.3
"""Array columns count if 95 % of the spots are nearer than this, in pitches, to where they put them."""

NO_COLUMNS = "array_row and array_col do not fit the positions"


@dataclass(frozen=True)
class SampleArray:
    """The array under a sample's spots; see Slide.

    Attributes:
        pitch_um: distance of nearest spots in micrometres.
        spot_um: diameter of a spot in micrometres.
        lattice: kind of the array.
        grid: [N, 2] int32 (column, row); None where there is none.
        notes: what a report should say.
    """

    pitch_um: float
    spot_um: float
    lattice: Lattice
    grid: np.ndarray | None
    notes: tuple[str, ...] = ()


def find_array(
    name: str, sample: HestSample, xy: np.ndarray, obs: pd.DataFrame, um_per_px: dict[str, float]
) -> SampleArray:
    """Find the array of a sample.

    Args:
        name: the sample's id, for messages.
        sample: its row of the catalogue.
        xy: [N, 2] full-resolution pixels.
        obs: [N] rows; array_row and array_col are used where they exist.
        um_per_px: what says so -> micrometres per pixel; needed for pseudo-spots alone.

    Raises:
        SlideError: pseudo-spots without a pixel size, or on one another.
    """
    technology = sample.row.technology
    if technology not in PITCH_UM:
        return _array_of_pseudo_spots(name, technology, xy, um_per_px.get("metadata", um_per_px.get("catalogue")))
    pitch_um = sample.pitch_um or PITCH_UM[technology]
    spot_um = sample.spot_um or SPOT_UM[technology]
    notes: tuple[str, ...] = ()
    if sample.swapped:
        notes = (f"the catalogue has spots of {pitch_um:g} um, {spot_um:g} um apart; taken the other way round",)
    places = _read_places(obs)
    if technology == "ST":
        return _square_array(places, xy, pitch_um, spot_um, notes)
    return _hexagonal_array(places, xy, pitch_um, spot_um, notes)


def _hexagonal_array(
    places: np.ndarray | None, xy: np.ndarray, pitch_um: float, spot_um: float, notes: tuple[str, ...]
) -> SampleArray:
    if places is not None and len(np.unique(places.sum(axis=1) % 2)) == 1:
        grid = places[:, ::-1]
        if _fits(grid, grid * [0.5, math.sqrt(3) / 2], xy):
            return SampleArray(pitch_um, spot_um, "hex", grid, notes)
    fit = fit_lattice(xy, "hex")
    if fit is None:
        return SampleArray(pitch_um, spot_um, "none", None, (*notes, f"{NO_COLUMNS}, and these fit no hexagonal array"))
    return SampleArray(pitch_um, spot_um, "hex", fit.grid, (*notes, f"{NO_COLUMNS}; the array is found from these"))


def _square_array(
    places: np.ndarray | None, xy: np.ndarray, pitch_um: float, spot_um: float, notes: tuple[str, ...]
) -> SampleArray:
    """Find a legacy array. HEST-1k calls the first number of `AxB` array_row, but it runs along x."""
    if places is not None:
        dense = is_dense(places[:, 0], places[:, 1])
        grid = make_square_grid(places[:, 0], places[:, 1], dense)
        if _fits(grid, grid, xy):
            halved = dense and pitch_um == ST_PITCH_UM
            return SampleArray(pitch_um / math.sqrt(2) if halved else pitch_um, spot_um, "square", grid, notes)
    return SampleArray(pitch_um, spot_um, "none", None, (*notes, f"{NO_COLUMNS}, so there is no grid"))


def _array_of_pseudo_spots(name: str, technology: str, xy: np.ndarray, um_per_px: float | None) -> SampleArray:
    """Find the array of pseudo-spots: side and pitch are the pixels between them times the pixel size."""
    if um_per_px is None or len(xy) < 2:
        raise SlideError(
            name,
            f"{len(xy)} pseudo-spots of {technology} and pixel_size_um_estimated {um_per_px}: their pitch cannot be "
            f"derived. Two spots and a pixel size, in metadata/{name}.json or the catalogue, are wanted",
        )
    fit = fit_lattice(xy, "square")
    pitch_px = float(np.median(KDTree(xy).query(xy, k=2)[0][:, 1])) if fit is None else fit.pitch_px
    pitch_um = round(pitch_px * um_per_px, 1)
    if not pitch_um > 0:
        raise SlideError(name, f"obsm['spatial'] has {technology} pseudo-spots that lie on one another")
    note = f"{technology}: pseudo-spots of {pitch_um:g} um, pooled by HEST-1k; the pitch is taken from the pixel size"
    if fit is None:
        return SampleArray(pitch_um, pitch_um, "none", None, (note, "positions fit no square array"))
    return SampleArray(pitch_um, pitch_um, "square", fit.grid, (note,))


def _read_places(obs: pd.DataFrame) -> np.ndarray | None:
    """Returns int32 [N, 2], (array_row, array_col); None where a spot has none."""
    import pandas as pd

    if not {"array_row", "array_col"} <= set(obs.columns):
        return None
    columns = (pd.to_numeric(obs[name].astype(object), errors="coerce") for name in ("array_row", "array_col"))
    values = np.stack([np.asarray(column, dtype=np.float64) for column in columns], axis=1)
    if not np.isfinite(values).all() or (values != np.round(values)).any():
        return None
    return values.astype(np.int32)


def _fits(grid: np.ndarray, lattice_xy: np.ndarray, xy: np.ndarray) -> bool:
    """Whether each spot has a place of its own, near where the grid puts it."""
    return len(np.unique(grid, axis=0)) == len(grid) and measure_grid_residual(lattice_xy, xy) < MISFIT
