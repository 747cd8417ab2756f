from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from data_prep.images.whole import ArrayPixels
from data_prep.shards.crops import (
    CropSize,
    compute_crop_size,
    compute_niche_boxes,
    cut_crop,
    encode,
    locate_corner,
    measure_border_colour,
    measure_outside_share,
)
from stalign_pl.shard_format import MAX_SIDE_PX


@pytest.fixture
def ruler() -> np.ndarray:
    """R is x, G is y: each pixel says where it is."""
    y, x = np.mgrid[:200, :250]
    return np.stack([x, y, np.full_like(x, 9)], axis=2).astype(np.uint8)


def test_crop_is_centred_and_not_resized(ruler: np.ndarray) -> None:
    patch = cut_crop(ArrayPixels(ruler), np.array([100.0, 60.0]), compute_crop_size(55, 5.0), np.zeros(3, np.uint8))
    assert patch.shape == (11, 11, 3)
    assert patch[5, 5].tolist() == [100, 60, 9]
    assert patch[0, 0].tolist() == [95, 55, 9]
    even = cut_crop(ArrayPixels(ruler), np.array([100.0, 60.0]), compute_crop_size(50, 5.0), np.zeros(3, np.uint8))
    assert (even[0, 0, 0], even[-1, -1, 0]) == (95, 104)  # the centre is the edge between 99 and 100


@pytest.mark.parametrize("centre", [(2.0, 3.0), (249.0, 199.0), (-4.0, 100.0), (120.0, 206.0)])
def test_what_is_outside_is_filled_and_counted(ruler: np.ndarray, centre: tuple[float, float]) -> None:
    fill = np.array([1, 2, 3], np.uint8)
    size = compute_crop_size(21, 1.0)
    patch = cut_crop(ArrayPixels(ruler), np.array(centre), size, fill)
    x0, y0 = locate_corner(np.array(centre), 21)
    slow, lost = np.empty((21, 21, 3), np.uint8), 0
    for row in range(21):
        for column in range(21):
            x, y = x0 + column, y0 + row
            inside = 0 <= x < 250 and 0 <= y < 200
            slow[row, column] = ruler[y, x] if inside else fill
            lost += not inside
    assert np.array_equal(patch, slow)
    assert measure_outside_share(np.array([centre]), 21, 250, 200) == pytest.approx([lost / 441])
    assert lost > 0


def test_large_crops_are_reduced_and_small_ones_never_enlarged() -> None:
    assert compute_crop_size(300, 0.5) == CropSize(300, 600, MAX_SIDE_PX)
    assert compute_crop_size(55, 16.0).stored_px == 3
    assert compute_crop_size(1, 16.0).stored_px == 1
    grain = np.random.default_rng(0).integers(0, 256, (700, 700, 3), dtype=np.uint8)
    patch = cut_crop(ArrayPixels(grain), np.array([350.0, 350.0]), compute_crop_size(300, 0.5), np.zeros(3, np.uint8))
    assert patch.shape == (MAX_SIDE_PX, MAX_SIDE_PX, 3)
    assert patch.std() < grain.std() / 1.8  # averaged, not sampled
    assert abs(patch.mean() - grain.mean()) < 2


def test_boxes_hold_the_patches_of_the_nearest() -> None:
    spot, niche = CropSize(55, 28, 28), CropSize(300, 300, 150)
    members = np.array([[500.0, 400.0], [560.0, 400.0], [470.0, 452.0], [470.0, 348.0], [900.0, 400.0]])
    origin = locate_corner(members[0], niche.side_px)
    boxes = compute_niche_boxes(members, origin, spot, niche)
    for k in range(len(members)):
        left = min(x for x, _ in members[: k + 1]) - 14 - origin[0]
        top = min(y for _, y in members[: k + 1]) - 14 - origin[1]
        right = max(x for x, _ in members[: k + 1]) + 14 - origin[0]
        bottom = max(y for _, y in members[: k + 1]) + 14 - origin[1]
        slow = [min(max(round(value / 2, 1), 0), 150) for value in (left, top, right, bottom)]
        assert boxes[k].tolist() == pytest.approx(slow)
    assert boxes[-1, 2] == 150  # clipped


def test_border_colour_is_the_glass() -> None:
    image = np.full((40, 40, 3), 60, np.uint8)
    image[:2] = image[-2:] = [230, 228, 231]
    image[:, :2] = image[:, -2:] = [230, 228, 231]
    assert measure_border_colour(ArrayPixels(image)).tolist() == [230, 228, 231]


def test_png_is_lossless_and_jpeg_close_and_full_chroma() -> None:
    y, x = np.mgrid[:80, :80]
    patch = np.stack([x * 3, y * 3, 255 - x * 3], axis=2).astype(np.uint8)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(encode(patch, "png")))), patch)
    jpeg = Image.open(io.BytesIO(encode(patch, "jpg")))
    assert jpeg.layer[0][1:3] == jpeg.layer[1][1:3] == (1, 1)
    assert np.abs(np.asarray(jpeg).astype(int) - patch).mean() < 2
