"""Spots to neighbour indices: the spots of each ring around a spot, in an order that never depends on rounding."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

from data_prep.slide.slide import Lattice, Slide, SlideError
from data_prep.slide.spot_tree import build_tree
from stalign_pl.errors import ConfigError

LATTICE_SLACK = 0.05
"""Ring r of a lattice holds distances in (r - 1 + .05, r + .05] pitches: 6, 12, 18, 24 spots of a hexagonal array."""

FREE_SLACK = 0.25
"""Off the lattice positions scatter, so a ring reaches a quarter of a pitch further."""

FREE_STEP = 0.05
"""Off the lattice, distances that differ by less than this share of a pitch count as equal."""


FURTHEST = 32.0
"""Neighbours are stored up to this many pitches: an island of tissue further off is no niche."""


@dataclass(frozen=True)
class NeighborRule:
    """Which neighbours are stored, and where a ring ends. One of three; the order within is always that of distance.

    Attributes:
        rings: hexagonal rings (or their like on a square lattice): ring r ends at r pitches.
        radii_um: ring r ends at radii_um[r - 1] micrometres, whatever the slide's pitch; ascending.
        nearest: ring r ends at the nearest[r - 1]-th neighbour; ascending. See FURTHEST.

    Raises:
        ConfigError: both radii_um and nearest, or values that do not ascend from above 0.
    """

    rings: int = 4
    radii_um: tuple[float, ...] = ()
    nearest: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= self.rings <= FURTHEST:
            raise ConfigError(f"rings is {self.rings}; 1 to {FURTHEST:.0f} is wanted")
        if self.radii_um and self.nearest:
            raise ConfigError("give radii_um or nearest, not both; without either, rings counts")
        for name in ("radii_um", "nearest"):
            bounds = getattr(self, name)
            if any(high <= low for low, high in zip((0, *bounds), bounds, strict=False)):
                raise ConfigError(f"{name} is {list(bounds)}; values that ascend from above 0 are wanted")


@dataclass(frozen=True)
class Neighbors:
    """Neighbours of every spot of a slide.

    Attributes:
        indices: int32 [N, M], spot indices from near to far, padded with -1 at the end; never the spot itself.
        ring_ends: int32 [N, rings], cumulative: `indices[i, :ring_ends[i, r]]` is rings 1 .. r + 1 of spot i.
    """

    indices: np.ndarray
    ring_ends: np.ndarray

    @property
    def ring_members(self) -> tuple[int, ...]:
        """Per ring the largest number of neighbours that a spot has up to this ring."""
        return tuple(int(end) for end in self.ring_ends.max(axis=0, initial=0))


def find_neighbors(slide: Slide, rule: NeighborRule) -> Neighbors:
    """Find neighbours by a rule, in order of distance; ties in a balanced order.

    Equal distances are ordered by angle, measured on the array clockwise (y down) from +x. The places of one distance
    are numbered by angle, 0, 1, 2, ...; the even numbers come first, then the odd ones. So the nearest three of a
    hexagon's six stand at 0, 120 and 240 degrees, which encloses the spot, where rounding would take any three. The
    numbers belong to the places of the full array: a missing spot does not change the order of those that exist.
    Off the lattice the places of one distance are six sectors of 60 degrees, centred on 0, 60, ...

    Args:
        slide: its `lattice_xy` gives positions in pitches.
        rule: ring r of a lattice holds the distances in (bound r - 1 + .05, bound r + .05] pitches.

    Returns:
        Neighbors. A spot with nobody near, or a slide's only spot, has none.

    Raises:
        SlideError: radii beyond FURTHEST.
    """
    if not rule.nearest:
        bounds = np.array(rule.radii_um) / slide.pitch_um if rule.radii_um else np.arange(1.0, rule.rings + 1)
        if bounds[-1] > FURTHEST:
            raise SlideError(
                slide.name,
                f"radii_um reaches {rule.radii_um[-1]:g} um, {bounds[-1]:.0f} times the {slide.pitch_um:g} um between "
                f"its spots; at most {FURTHEST:.0f} times are stored",
            )
        return _find_within(slide, bounds)
    most = min(rule.nearest[-1], len(slide) - 1)
    reach = min(1.0 + np.sqrt(rule.nearest[-1]), FURTHEST)
    found = _find_within(slide, np.array([reach]))
    while found.ring_ends.min() < most and reach < FURTHEST:  # spots at an edge look further
        reach = min(2 * reach, FURTHEST)
        found = _find_within(slide, np.array([reach]))
    ends = np.minimum(found.ring_ends, np.array(rule.nearest)).astype(np.int32)
    width = int(ends.max(initial=0))
    indices = np.where(np.arange(width) < ends[:, -1:], found.indices[:, :width], -1).astype(np.int32)
    return Neighbors(np.ascontiguousarray(indices), ends)


def _find_within(slide: Slide, bounds: np.ndarray) -> Neighbors:
    """Find all neighbours within the last of `bounds` (pitches, ascending)."""
    if len(slide) == 1:
        return Neighbors(np.empty((1, 0), np.int32), np.zeros((1, len(bounds)), np.int32))
    if slide.grid is None:
        return _find_off_lattice(slide.lattice_xy, bounds)
    return _find_on_lattice(slide.grid, slide.lattice, bounds)


def list_lattice_offsets(lattice: Lattice, bounds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """List the array's places around a spot up to the last of `bounds` (pitches), in the order of `find_neighbors`.

    Returns:
        int64 [P, 2], (column, row) steps from the spot; int64 [P], the ring of each, counted from 0.
    """
    reach = 2 * int(np.ceil(bounds[-1])) + 2
    steps = [(c, r) for c, r in product(range(-reach, reach + 1), repeat=2) if lattice != "hex" or (c + r) % 2 == 0]
    step = np.array([place for place in steps if place != (0, 0)])
    # Squared distance in whole numbers (hex: times four), so that equal distances are equal.
    squared = step[:, 0] ** 2 + step[:, 1] ** 2 * (3 if lattice == "hex" else 1)
    distance = np.sqrt(squared / (4 if lattice == "hex" else 1))
    step, squared, distance = (array[distance <= bounds[-1] + LATTICE_SLACK] for array in (step, squared, distance))
    angle = np.arctan2(step[:, 1] * (np.sqrt(3) if lattice == "hex" else 1), step[:, 0]) % (2 * np.pi)
    by_angle = np.lexsort((angle, squared))
    step, squared, distance = step[by_angle], squared[by_angle], distance[by_angle]
    slot = np.arange(len(step)) - np.searchsorted(squared, squared)
    order = np.lexsort((slot // 2, slot % 2, squared))
    return step[order], np.searchsorted(bounds, distance[order] - LATTICE_SLACK)


def _find_on_lattice(grid: np.ndarray, lattice: Lattice, bounds: np.ndarray) -> Neighbors:
    steps, ring_of_step = list_lattice_offsets(lattice, bounds)
    margin = np.abs(steps).max()
    place = grid.astype(np.int64) - grid.min(axis=0) + margin
    spot_at = np.full(place.max(axis=0) + margin + 1, -1, np.int32)
    spot_at[place[:, 0], place[:, 1]] = np.arange(len(grid))
    around = place[:, None, :] + steps[None, :, :]
    found = spot_at[around[..., 0], around[..., 1]]
    ring_of_spot = np.where(found >= 0, ring_of_step[None, :], len(bounds))
    return _pack(found, ring_of_spot, len(bounds))


def _find_off_lattice(xy_pitches: np.ndarray, bounds: np.ndarray) -> Neighbors:
    pairs = build_tree(xy_pitches).query_pairs(bounds[-1] + FREE_SLACK + FREE_STEP, output_type="ndarray")
    spot = np.concatenate([pairs[:, 0], pairs[:, 1]])
    other = np.concatenate([pairs[:, 1], pairs[:, 0]])
    offset = xy_pitches[other] - xy_pitches[spot]
    step = np.round(np.hypot(offset[:, 0], offset[:, 1]) / FREE_STEP).astype(np.int64)
    angle = np.arctan2(offset[:, 1], offset[:, 0]) % (2 * np.pi)
    sector = np.round(angle / (np.pi / 3)).astype(np.int64) % 6
    order = np.lexsort((other, np.round(angle, 6), sector // 2, sector % 2, step, spot))
    spot, other, step = spot[order], other[order], step[order]
    # From the rounded distance, so that the rings follow the order; ring 1 holds everything nearer, too.
    ring = np.searchsorted(bounds, step * FREE_STEP - FREE_SLACK - 1e-9)
    inside = ring < len(bounds)
    spot, other, ring = spot[inside], other[inside], ring[inside]
    column = np.arange(len(spot)) - np.searchsorted(spot, spot)
    shape = (len(xy_pitches), int(column.max()) + 1 if len(column) else 0)
    indices, ring_of_spot = np.full(shape, -1, np.int32), np.full(shape, len(bounds), np.int64)
    indices[spot, column], ring_of_spot[spot, column] = other, ring
    return _pack(indices, ring_of_spot, len(bounds))


def _pack(found: np.ndarray, ring: np.ndarray, rings: int) -> Neighbors:
    """Move the empty places to the end of each row, keep the order of the rest, cut columns that nobody fills."""
    order = np.argsort(found < 0, axis=1, kind="stable")
    found = np.take_along_axis(found, order, axis=1)
    width = int((found >= 0).sum(axis=1).max(initial=0))
    ends = np.stack([(ring <= number).sum(axis=1) for number in range(rings)], axis=1)
    return Neighbors(np.ascontiguousarray(found[:, :width], np.int32), ends.astype(np.int32))
