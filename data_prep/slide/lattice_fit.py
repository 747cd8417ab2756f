"""The array behind positions: column and row of spots of which a file gives pixels alone, or does not give truly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from data_prep.slide.spot_tree import build_tree

FOLDS = {"hex": 6, "square": 4}
"""Neighbours of a spot inside the array, at equal angles."""

REACH = 1.3
"""Spots up to this many pitches apart are neighbours; the next are sqrt(2) (square) or sqrt(3) (hex) away."""

ORDERED = 0.8
"""Least mean resultant length of the neighbours' directions, folded by the array's symmetry: 1 on the array, about 0
for random positions, and for one kind of array read as the other."""

TOLERANCE = 0.25
"""Largest distance, in pitches, of a spot from its place. Half a pitch away, a place would not be the spot's own."""

START_PITCHES = 4.0
"""Radius within which the first fit is made; it is doubled until all spots are in, so that a small error of angle does
not add up over a hundred columns."""


@dataclass(frozen=True)
class LatticeFit:
    """Positions on an array.

    Attributes:
        grid: [N, 2] int32, (column, row), each from 0 or 1; hex columns count in half pitches and column + row is
            even, as Slide.grid has it. Rows run along the direction nearest to one of the image's axes. Rotated, never
            mirrored, against the pixels: from positions alone nobody can tell a mirrored array.
        pitch_px: distance of nearest places.
        residual: the largest distance of a spot from its place, in pitches.
    """

    grid: np.ndarray
    pitch_px: float
    residual: float


def fit_lattice(xy: np.ndarray, lattice: Literal["hex", "square"]) -> LatticeFit | None:
    """Find the array on which positions stand, at any rotation, with spots missing; None where they stand on none.

    Args:
        xy: [N, 2] float, (x, y) in pixels.

    Returns:
        None for fewer than four spots, positions that are not finite, two spots on one place, neighbours in no order,
        or a spot further than TOLERANCE from every place.
    """
    xy = np.asarray(xy, np.float64)
    if len(xy) < 4 or not np.isfinite(xy).all():
        return None
    tree = build_tree(xy)
    nearest = tree.query(xy, k=2)[0][:, 1]
    near = float(np.quantile(nearest, 0.1))
    if not near > 0:
        return None
    near = float(np.median(nearest[nearest <= REACH * near]))
    pairs = tree.query_pairs(REACH * near, output_type="ndarray")
    axes = _find_axes(xy[pairs[:, 1]] - xy[pairs[:, 0]], FOLDS[lattice])
    if axes is None:
        return None
    degree = np.bincount(pairs.ravel(), minlength=len(xy))
    middle = np.linalg.norm(xy - np.median(xy[degree == degree.max()], axis=0), axis=1)
    start = int(np.lexsort((middle, -degree))[0])
    places, frame = _assign_places(xy, start, axes, near)
    # From the frame: distances to the nearest spot are too short where positions are noisy.
    pitch = float(np.sqrt(np.abs(np.linalg.det(frame[:2])) / np.sin(2 * np.pi / FOLDS[lattice])))
    residual = np.linalg.norm(xy - _locate(places, frame), axis=1) / pitch
    if residual.max() > TOLERANCE or len(np.unique(places, axis=0)) < len(places):
        return None
    return LatticeFit(_number_grid(places, lattice), pitch, float(residual.max()))


def measure_grid_residual(lattice_xy: np.ndarray, xy: np.ndarray) -> float:
    """Measure how far positions are from a grid under the best affine map: the 95th percentile, in pitches.

    Args:
        lattice_xy: [N, 2] positions in pitches, see Slide.lattice_xy.
        xy: [N, 2] pixels.

    Returns:
        inf where the grid is a single line or the map a collapse, so that it says nothing.
    """
    design = np.column_stack([lattice_xy, np.ones(len(xy))])
    frame, _, rank, _ = np.linalg.lstsq(design, xy, rcond=None)
    stretch = np.linalg.svd(frame[:2], compute_uv=False)
    if rank < 3 or stretch[1] < 0.5 * stretch[0]:
        return float("inf")
    distance = np.linalg.norm(design @ frame - xy, axis=1)
    return float(np.quantile(distance, 0.95) / np.sqrt(stretch.prod()))


def _find_axes(steps: np.ndarray, folds: int) -> np.ndarray | None:
    """Find [2, 2]: the steps from a place to the next in its row, and to the next one turn on; None without order."""
    if len(steps) == 0:
        return None
    angle = np.arctan2(steps[:, 1], steps[:, 0])
    mean = np.exp(1j * folds * angle).mean()
    if abs(mean) < ORDERED:
        return None
    turn = 2 * np.pi / folds
    candidates = np.angle(mean) / folds + turn * np.arange(folds)
    off_axis = np.abs((candidates + np.pi / 4) % (np.pi / 2) - np.pi / 4)
    backwards = np.cos(candidates) + 0.5 * np.sin(candidates) < 0  # rows run to the right, or down
    row = candidates[np.lexsort((backwards, np.round(off_axis, 6)))[0]]
    axes = []
    for direction in (row, row + turn):
        aligned = np.cos(angle - direction)
        along = np.abs(aligned) > np.cos(turn / 2)
        if not along.any():
            return None
        axes.append((steps[along] * np.sign(aligned[along])[:, None]).mean(axis=0))
    return np.array(axes)


def _assign_places(xy: np.ndarray, start: int, axes: np.ndarray, pitch: float) -> tuple[np.ndarray, np.ndarray]:
    """Assign places, int64 [N, 2] steps along the axes, and fit the frame [3, 2] on ever more spots from `start` on."""
    frame = np.vstack([axes, xy[start]])
    distance = np.linalg.norm(xy - xy[start], axis=1)
    radius = START_PITCHES * pitch
    while True:
        inside = distance <= radius
        places = np.round((xy - frame[2]) @ np.linalg.inv(frame[:2])).astype(np.int64)
        design = np.column_stack([places[inside], np.ones(inside.sum())])
        fitted, _, rank, _ = np.linalg.lstsq(design, xy[inside], rcond=None)
        sheared = np.abs(fitted[:2] - axes).max() > TOLERANCE * pitch
        if rank == 3 and not sheared:
            frame = fitted
        if inside.all():
            return np.round((xy - frame[2]) @ np.linalg.inv(frame[:2])).astype(np.int64), frame
        radius *= 2


def _locate(places: np.ndarray, frame: np.ndarray) -> np.ndarray:
    return places @ frame[:2] + frame[2]


def _number_grid(places: np.ndarray, lattice: str) -> np.ndarray:
    column, row = places[:, 0], places[:, 1] - places[:, 1].min()
    if lattice == "hex":  # the second axis goes half a pitch along the row, and a row on
        column = 2 * column + places[:, 1]
        column = column - column.min()
        column = column + (column[0] + row[0]) % 2
    else:
        column = column - column.min()
    return np.stack([column, row], axis=1).astype(np.int32)
