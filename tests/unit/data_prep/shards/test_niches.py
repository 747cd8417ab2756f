"""Neighbour tables against a slow reference that looks at every pair and at the full lattice."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from data_prep.shards.niches import NeighborRule, Neighbors, find_neighbors
from data_prep.slide.slide import Slide, SlideImage
from stalign_pl.errors import ConfigError


def slide_at(xy: np.ndarray, grid: np.ndarray | None = None, lattice: str = "none") -> Slide:
    spots = len(xy)
    return Slide(
        name="s",
        source="test",
        patient="p",
        barcodes=np.array([f"b{number}" for number in range(spots)]),
        xy=np.asarray(xy, float),
        counts=sparse.csr_matrix(np.ones((spots, 1), np.int32)),
        gene_ids=np.array(["ENSG00000000001"]),
        gene_symbols=np.array(["A"]),
        image=SlideImage(Path("none"), "fullres"),
        pitch_um=100,
        spot_um=55,
        lattice=lattice,
        grid=grid,
    )


def full_grid(lattice: str, side: int) -> np.ndarray:
    """int32 [N, 2] (column, row), without a hole."""
    wide = 2 if lattice == "hex" else 1
    places = [(wide * column + (row % wide), row) for column in range(side) for row in range(side)]
    return np.array(places, np.int32)


def position(column: int, row: int, lattice: str) -> tuple[float, float]:
    return (column / 2, row * math.sqrt(3) / 2) if lattice == "hex" else (float(column), float(row))


def degrees(dx: float, dy: float) -> float:
    return round(math.degrees(math.atan2(dy, dx)) % 360, 6) % 360


def slow_neighbors(grid: np.ndarray, lattice: str, rings: int) -> list[list[tuple[int, int]]]:
    """Per spot [(neighbour, ring)], ordered by the stated rule, place by place of the full lattice."""
    angles: dict[float, list[float]] = {}
    for column in range(-14, 15):
        for row in range(-14, 15):
            if (column, row) != (0, 0) and (lattice == "square" or (column + row) % 2 == 0):
                x, y = position(column, row, lattice)
                angles.setdefault(round(math.hypot(x, y), 6), []).append(degrees(x, y))
    table = []
    for c0, r0 in grid:
        found = []
        for other, (c1, r1) in enumerate(grid):
            x, y = position(c1 - c0, r1 - r0, lattice)
            distance = round(math.hypot(x, y), 6)
            ring = next((r for r in range(1, rings + 1) if r - 1 + 0.05 < distance <= r + 0.05), None)
            if ring is not None:
                slot = sorted(angles[distance]).index(degrees(x, y))
                found.append((distance, slot % 2, slot, other, ring))
        table.append([(other, ring) for *_, other, ring in sorted(found)])
    return table


def listed(neighbors: Neighbors, spot: int) -> list[tuple[int, int]]:
    ends = neighbors.ring_ends[spot]
    rings = np.searchsorted(ends, np.arange(ends[-1]), side="right") + 1
    assert (neighbors.indices[spot, ends[-1] :] == -1).all()
    return list(zip(neighbors.indices[spot, : ends[-1]].tolist(), rings.tolist(), strict=True))


@pytest.mark.parametrize("lattice", ["hex", "square"])
@pytest.mark.parametrize("keep", [1.0, 0.6, 0.15])
def test_lattice_matches_the_slow_reference(lattice: str, keep: float) -> None:
    rng = np.random.default_rng(3)
    places = [(c, r) for c in range(18) for r in range(9) if lattice == "square" or (c + r) % 2 == 0]
    grid = rng.permutation(np.array(places))[: int(keep * len(places))] + np.array([5, -3])
    xy = np.array([position(c, r, lattice) for c, r in grid]) * 80
    found = find_neighbors(slide_at(xy, grid.astype(np.int32), lattice), NeighborRule(rings=4))
    slow = slow_neighbors(grid, lattice, 4)
    assert [listed(found, spot) for spot in range(len(grid))] == slow
    assert found.indices.dtype == np.int32
    assert found.ring_ends.shape == (len(grid), 4)


@pytest.mark.parametrize("missing", [(), (180,), (60, 240), (300,)])
def test_three_of_a_hexagon_stand_at_0_120_240(missing: tuple[int, ...]) -> None:
    steps = {0: (2, 0), 60: (1, 1), 120: (-1, 1), 180: (-2, 0), 240: (-1, -1), 300: (1, -1)}
    present = [angle for angle in (300, 60, 0, 240, 180, 120) if angle not in missing]
    grid = np.array([(0, 0), *(steps[angle] for angle in present)], np.int32)
    found = find_neighbors(
        slide_at(np.array([position(*place, "hex") for place in grid]) * 80, grid, "hex"), NeighborRule(rings=1)
    )
    order = [present[other - 1] for other in found.indices[0] if other > 0]
    assert order == [angle for angle in (0, 120, 240, 60, 180, 300) if angle not in missing]


def test_ring_sizes_inside_a_hexagonal_array() -> None:
    grid = np.array([(c, r) for c in range(40) for r in range(20) if (c + r) % 2 == 0], np.int32)
    middle = int(np.flatnonzero((grid == (20, 10)).all(axis=1))[0])
    found = find_neighbors(slide_at(grid * [40, 69.3], grid, "hex"), NeighborRule())
    assert found.ring_ends[middle].tolist() == [6, 18, 36, 60]


def test_off_the_lattice_distance_then_sector() -> None:
    rng = np.random.default_rng(5)
    grid = np.array([(c, r) for c in range(12) for r in range(8) if (c + r) % 2 == 0])
    xy = np.array([position(c, r, "hex") for c, r in grid]) * 100 + rng.normal(0, 4, (len(grid), 2))
    slide = slide_at(xy)
    found = find_neighbors(slide, NeighborRule(rings=2))
    for spot, centre in enumerate(slide.lattice_xy):
        slow = []
        for other, place in enumerate(slide.lattice_xy):
            dx, dy = place - centre
            step = round(math.hypot(dx, dy) / 0.05)
            ring = 1 if step <= 25 else 2  # 1.25 and 2.25 pitches in steps of .05
            if other != spot and step <= 45:
                sector = round(math.degrees(math.atan2(dy, dx)) % 360 / 60) % 6
                slow.append((step, sector % 2, sector, degrees(dx, dy), other, ring))
        assert listed(found, spot) == [(other, ring) for *_, other, ring in sorted(slow)]
    inner = (xy > xy.min(axis=0) + 150).all(axis=1) & (xy < xy.max(axis=0) - 150).all(axis=1)
    assert inner.any()
    assert (found.ring_ends[inner, 0] == 6).all()


def test_a_single_spot_and_an_isolated_spot_have_no_neighbours() -> None:
    alone = find_neighbors(slide_at(np.array([[3.0, 4.0]])), NeighborRule())
    assert alone.indices.shape == (1, 0)
    assert alone.ring_ends.tolist() == [[0, 0, 0, 0]]
    grid = np.array([(0, 0), (2, 0), (60, 0)], np.int32)
    found = find_neighbors(slide_at(grid * [40.0, 0], grid, "hex"), NeighborRule())
    assert found.ring_ends.tolist() == [[1, 1, 1, 1], [1, 1, 1, 1], [0, 0, 0, 0]]
    assert found.indices.tolist() == [[1], [0], [-1]]


def test_rings_in_micrometres_do_not_depend_on_the_pitch() -> None:
    """200 um holds 18 spots of Visium's array (100 um apart) and 4 of a legacy one (200 um apart)."""
    hexagon = full_grid("hex", 9)
    square = full_grid("square", 9)
    rule = NeighborRule(radii_um=(100, 200))
    visium = find_neighbors(
        slide_at(np.array([position(*place, "hex") for place in hexagon]) * 50, hexagon, "hex"), rule
    )
    legacy = replace(slide_at(square * 50.0, square, "square"), pitch_um=200.0)
    assert visium.ring_members == (6, 18)
    assert find_neighbors(legacy, rule).ring_members == (0, 4)


def test_nearest_reaches_further_at_an_edge() -> None:
    """The corner of an array has two or three neighbours a pitch away; its five nearest are found further off."""
    grid = full_grid("hex", 6)
    xy = np.array([position(*place, "hex") for place in grid])
    found = find_neighbors(slide_at(xy * 50, grid, "hex"), NeighborRule(nearest=(3, 5)))
    assert (found.ring_ends == [3, 5]).all()
    apart = np.linalg.norm(xy[:, None] - xy[None], axis=2)
    for spot, nearest in enumerate(found.indices):
        assert np.allclose(np.sort(apart[spot])[1:6], apart[spot, nearest])


@pytest.mark.parametrize("rule", [{"radii_um": (200, 100)}, {"nearest": (0,)}, {"radii_um": (1,), "nearest": (1,)}])
def test_a_rule_that_is_none_is_refused(rule: dict) -> None:
    with pytest.raises(ConfigError):
        NeighborRule(**rule)
