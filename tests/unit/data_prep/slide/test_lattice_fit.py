"""The array that is found behind positions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.spatial import cKDTree

from data_prep.slide.lattice_fit import fit_lattice, measure_grid_residual
from data_prep.sources.hest import array as hest_array
from data_prep.sources.space_ranger.spatial_folder import read_positions
from data_prep.sources.stimage import slide as stimage

PITCH = 12.5  # px, as on a thumbnail


def array(lattice: str, columns: int = 40, rows: int = 30) -> tuple[np.ndarray, np.ndarray]:
    """(column, row) and positions in pitches, of a whole array."""
    column, row = (side.ravel() for side in np.meshgrid(np.arange(columns), np.arange(rows)))
    if lattice == "hex":
        column = 2 * column + row % 2
        return np.stack([column, row], 1), np.stack([column / 2, row * np.sqrt(3) / 2], 1)
    return np.stack([column, row], 1), np.stack([column, row], 1).astype(float)


def turned(pitches: np.ndarray, degrees: float, mirrored: bool = False) -> np.ndarray:
    angle = np.deg2rad(degrees)
    matrix = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return PITCH * (pitches * ([-1, 1] if mirrored else [1, 1])) @ matrix + [900.0, 700.0]


def neighbours(grid: np.ndarray, lattice: str) -> set[tuple[int, int]]:
    """Pairs of spots that a grid puts one pitch apart."""
    scale = [0.5, np.sqrt(3) / 2] if lattice == "hex" else [1, 1]
    return {tuple(sorted(pair)) for pair in cKDTree(grid * scale).query_pairs(1.05)}


@pytest.mark.parametrize("lattice", ["hex", "square"])
@pytest.mark.parametrize("degrees", [0.0, 0.4, 7.0, 14.0, 29.9, 30.1, 44.0, 90.0, 91.0, 180.0, 233.0])
@pytest.mark.parametrize("mirrored", [False, True])
def test_the_array_is_found_with_noise_holes_and_any_rotation(lattice: str, degrees: float, mirrored: bool) -> None:
    rng = np.random.default_rng(int(degrees * 10) + mirrored)
    grid, pitches = array(lattice)
    kept = rng.random(len(grid)) < 0.7
    grid, xy = grid[kept], turned(pitches[kept], degrees, mirrored)
    xy = xy + rng.normal(0, 0.04 * PITCH, xy.shape)
    fit = fit_lattice(xy, lattice)
    assert fit is not None
    assert neighbours(fit.grid, lattice) == neighbours(grid, lattice)
    assert fit.grid.min() >= 0
    assert fit.pitch_px == pytest.approx(PITCH, rel=0.05)
    assert fit.residual < 0.25
    if lattice == "hex":
        assert set((fit.grid.sum(axis=1) % 2).tolist()) == {0}
    # never mirrored against the pixels: some turn brings the grid onto them
    scale = np.array([0.5, np.sqrt(3) / 2]) if lattice == "hex" else np.array([1.0, 1.0])
    frame = np.linalg.lstsq(np.column_stack([fit.grid * scale, np.ones(len(xy))]), xy, rcond=None)[0]
    assert np.linalg.det(frame[:2]) == pytest.approx(PITCH**2, rel=0.03)


def test_rows_follow_the_image_where_the_array_is_not_turned() -> None:
    grid, pitches = array("hex")
    fit = fit_lattice(turned(pitches, 1.0), "hex")
    assert fit is not None
    assert np.array_equal(fit.grid, grid)
    upright = fit_lattice(turned(pitches, 91.0), "hex")
    assert upright is not None
    assert np.array_equal(upright.grid, grid)


def test_two_pieces_of_tissue_stand_on_one_array() -> None:
    grid, pitches = array("hex", columns=120, rows=70)
    kept = (grid[:, 0] < 60) | (grid[:, 0] > 180)
    xy = np.round(turned(pitches[kept], 0.7))  # whole pixels of a thumbnail
    fit = fit_lattice(xy, "hex")
    assert fit is not None
    assert np.array_equal(fit.grid - fit.grid[0], grid[kept] - grid[kept][0])


def test_a_small_error_of_angle_does_not_add_up_over_a_sparse_array() -> None:
    grid, pitches = array("hex", columns=120, rows=70)
    for seed in range(5):
        rng = np.random.default_rng(seed)
        kept = rng.random(len(grid)) < 0.15
        xy = turned(pitches[kept], 360 * rng.random())
        fit = fit_lattice(xy + rng.normal(0, 0.05 * PITCH, xy.shape), "hex")
        assert fit is not None
        assert neighbours(fit.grid, "hex") == neighbours(grid[kept], "hex")


def test_a_spot_between_places_refuses_the_array() -> None:
    _, pitches = array("hex")
    last = pitches[:, 0].argmax()
    for step, found in ((0.2, True), (0.4, False)):  # outwards at the edge, where no other spot has the next place
        moved = pitches.copy()
        moved[last, 0] += step
        assert (fit_lattice(turned(moved, 3), "hex") is not None) is found


def test_positions_on_no_such_array_are_refused() -> None:
    rng = np.random.default_rng(0)
    _, hexagons = array("hex")
    _, squares = array("square")
    assert fit_lattice(rng.random((800, 2)) * 500, "hex") is None
    assert fit_lattice(rng.random((800, 2)) * 500, "square") is None
    assert fit_lattice(turned(squares, 3), "hex") is None
    assert fit_lattice(turned(hexagons, 3), "square") is None
    assert fit_lattice(turned(hexagons, 3) + rng.normal(0, 0.2 * PITCH, hexagons.shape), "hex") is None
    stray = turned(hexagons, 3)
    stray[5] += 0.5 * PITCH
    assert fit_lattice(stray, "hex") is None
    doubled = np.concatenate([turned(hexagons, 3), turned(hexagons, 3)[:1] + 1])
    assert fit_lattice(doubled, "hex") is None
    assert fit_lattice(np.tile([[3.0, 4.0]], (50, 1)), "hex") is None
    assert fit_lattice(turned(hexagons, 3)[:3], "hex") is None
    assert fit_lattice(np.array([[0, 0], [1, 0], [2, 0], [3, np.nan]]), "hex") is None
    assert fit_lattice(np.stack([np.arange(50.0), np.zeros(50)], 1), "hex") is None  # one row: no second direction


def test_real_arrays_are_found_from_pixels_alone(real_data: Path) -> None:
    for name in ("dlpfc_151673", "crc16"):
        spots = read_positions(real_data / name / "spatial" / "tissue_positions_list.csv", name)
        spots = spots[spots.in_tissue == 1]
        fit = fit_lattice(spots[["x", "y"]].to_numpy(), "hex")
        truth = spots[["array_col", "array_row"]].to_numpy()
        assert fit is not None
        assert neighbours(fit.grid, "hex") == neighbours(truth, "hex")
        assert measure_grid_residual(truth * [0.5, np.sqrt(3) / 2], spots[["x", "y"]].to_numpy()) < 0.02
        shuffled = truth[np.random.default_rng(0).permutation(len(truth))]
        assert measure_grid_residual(shuffled * [0.5, np.sqrt(3) / 2], spots[["x", "y"]].to_numpy()) > 5


def test_real_printed_arrays_scatter_within_the_bound(real_data: Path) -> None:
    files = sorted((real_data / "her2st" / "data" / "ST-spotfiles").glob("*.tsv"))
    assert len(files) > 20
    for path in files:
        table = pd.read_csv(path, sep="\t")
        places, xy = table[["x", "y"]].to_numpy(float), table[["pixel_x", "pixel_y"]].to_numpy(float)
        assert measure_grid_residual(places, xy) < 0.5 * stimage.MISFIT == 0.5 * hest_array.MISFIT, path.name
