"""Images of every kind against the array they were written from: by region, by level, in bands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_prep.images import choose_level, make_thumbnail
from data_prep.images.blocks import BlockPixels
from data_prep.images.pixels import make_level
from data_prep.images.whole import ArrayPixels
from data_prep.shards.crops import compute_crop_size, cut_crop, measure_border_colour
from tests.support.data_prep.image_files import (
    IMAGE,
    halved,
    opened,
    picture,
    read,
    refusal,
    whole,
    write_pyramid,
    write_tiff,
)

# --- every kind comes out as it went in ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"photometric": "rgb"},
        {"photometric": "rgb", "rowsperstrip": 7},
        {"photometric": "rgb", "rowsperstrip": 16, "compression": "lzw", "predictor": True},
        {"photometric": "rgb", "rowsperstrip": 300, "compression": "zlib"},
        {"photometric": "rgb", "tile": (64, 64)},
        {"photometric": "rgb", "tile": (128, 64), "compression": "zlib", "predictor": True},
        {"photometric": "rgb", "tile": (64, 64), "compression": "zstd", "bigtiff": True},
        {"photometric": "rgb", "tile": (64, 64), "compression": "packbits", "byteorder": ">"},
        {"photometric": "rgb", "tile": (64, 64), "compression": "lzma"},
        {"photometric": "rgb", "tile": (64, 64), "compression": "jpeg2000"},
        {"photometric": "rgb", "tile": (64, 64), "compression": "aperio_jp2000_rgb"},
        {"photometric": "rgb", "tile": (64, 64), "compression": "webp"},
    ],
    ids=lambda options: "-".join(str(value) for value in options.values()),
)
def test_tiffs_without_loss(tmp_path: Path, options: dict) -> None:
    lossless = {"compressionargs": {"lossless": True}} if options.get("compression") == "webp" else {}
    path = write_tiff(tmp_path / "image.png", **options, **lossless)  # the suffix says nothing
    with opened(path) as pixels:
        assert isinstance(pixels, BlockPixels)
        assert np.array_equal(whole(pixels), IMAGE)
        for x0, y0, x1, y1 in ((0, 0, 1, 1), (60, 60, 70, 200), (419, 299, 420, 300), (5, 130, 420, 131)):
            assert np.array_equal(pixels.region(x0, y0, x1, y1), IMAGE[y0:y1, x0:x1])


@pytest.mark.parametrize("layout", [{"tile": (64, 64)}, {"rowsperstrip": 16}])
@pytest.mark.parametrize("colour", [{}, {"subsampling": (2, 2)}, {"compressionargs": {"outcolorspace": "rgb"}}])
def test_jpeg_inside_tiffs_has_the_right_colours(tmp_path: Path, layout: dict, colour: dict) -> None:
    image = IMAGE[:288]  # whole strips of 16 rows
    path = write_tiff(tmp_path / "image.tif", image, photometric="rgb", compression="jpeg", **layout, **colour)
    assert np.abs(read(path).astype(int) - image).mean() < 6


def test_jpeg_tables_stand_apart_and_rgb_needs_no_marker(tmp_path: Path) -> None:
    """As libtiff writes it: tables once in a tag, RGB components without a word in the stream."""
    Image.fromarray(IMAGE).save(tmp_path / "image.tif", compression="jpeg", quality=95)
    assert np.abs(read(tmp_path / "image.tif").astype(int) - IMAGE).mean() < 6


@pytest.mark.parametrize(
    ("make", "wanted"),
    [
        (lambda: (IMAGE[:, :, 0], {"photometric": "minisblack"}), lambda: np.repeat(IMAGE[:, :, :1], 3, axis=2)),
        (lambda: (IMAGE[:, :, 0], {"photometric": "miniswhite"}), lambda: 255 - np.repeat(IMAGE[:, :, :1], 3, axis=2)),
        (lambda: (np.moveaxis(IMAGE, 2, 0), {"photometric": "rgb", "planarconfig": "separate"}), lambda: IMAGE),
        (
            lambda: (
                np.moveaxis(IMAGE, 2, 0),
                {"photometric": "rgb", "planarconfig": "separate", "tile": (64, 64), "compression": "zlib"},
            ),
            lambda: IMAGE,
        ),
        (lambda: (np.moveaxis(IMAGE, 2, 0), {"photometric": "minisblack"}), lambda: IMAGE),  # three pages
        (
            lambda: (np.moveaxis(IMAGE, 2, 0), {"photometric": "minisblack", "ome": True, "tile": (64, 64)}),
            lambda: IMAGE,
        ),
        (lambda: (np.dstack([IMAGE, np.full((300, 420), 255, np.uint8)]), {"photometric": "rgb"}), lambda: IMAGE),
        (
            lambda: (
                IMAGE[:, :, 0],
                {"photometric": "palette", "colormap": np.arange(3 * 256, dtype=np.uint16).reshape(3, 256) * 85},
            ),
            lambda: ((np.arange(768).reshape(3, 256) * 85) >> 8).astype(np.uint8).T[IMAGE[:, :, 0]],
        ),
    ],
    ids=["grey", "white-is-zero", "planar", "planar-tiled", "three-pages", "ome-channels", "rgba", "palette"],
)
def test_other_layouts_of_tiff(tmp_path: Path, make: Callable, wanted: Callable) -> None:
    array, options = make()
    assert np.array_equal(read(write_tiff(tmp_path / "image.tif", array, **options)), wanted())


def test_see_through_is_white_and_half_of_it_half_white(tmp_path: Path) -> None:
    rgba = np.full((40, 40, 4), [200, 100, 0, 255], np.uint8)
    rgba[:10, :, 3], rgba[10:20, :, 3] = 0, 128
    multiplied = rgba.copy()
    multiplied[:, :, :3] = np.round(rgba[:, :, :3] * (rgba[:, :, 3:] / 255))
    Image.fromarray(rgba).save(tmp_path / "image.png")
    wanted = read(tmp_path / "image.png")
    assert wanted[5, 5].tolist() == [255, 255, 255]
    assert np.abs(wanted[15, 5].astype(int) - [227, 177, 127]).max() <= 1
    assert wanted[30, 5].tolist() == [200, 100, 0]
    plain = write_tiff(tmp_path / "plain.tif", rgba, photometric="rgb", extrasamples=["unassalpha"])
    assert np.array_equal(read(plain), wanted)
    associated = write_tiff(tmp_path / "associated.tif", multiplied, photometric="rgb", extrasamples=["assocalpha"])
    assert np.abs(read(associated).astype(int) - wanted).max() <= 1


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1", "RGBA", "LA"])
def test_regions_of_a_png_are_those_of_the_whole(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(IMAGE).convert(mode)
    image.save(tmp_path / "image.tif", "PNG")
    wanted = np.asarray(image.convert("RGB"))
    with opened(tmp_path / "image.tif") as pixels:
        assert np.array_equal(whole(pixels), wanted)
        assert np.array_equal(pixels.region(17, 40, 90, 61), wanted[40:61, 17:90])


def test_arrays_of_hdf5_by_region(tmp_path: Path) -> None:
    import h5py

    with h5py.File(tmp_path / "one.h5ad", "w") as file:
        file["bytes"] = IMAGE
        file.create_dataset("first", data=np.moveaxis(IMAGE, 2, 0), chunks=(1, 50, 70), compression="gzip")
        file["floats"] = (IMAGE / 255).astype(np.float32)
        file["grey"] = IMAGE[:, :, 0]
        file["log"] = np.log1p(IMAGE.astype(np.float32))
        file["deep"] = IMAGE.astype(np.uint16)
        file["many"] = np.zeros((2, 30, 40, 3), np.uint8)
        file["group/inner"] = 1
    for member in ("bytes", "first", "floats"):
        assert np.array_equal(read(tmp_path / "one.h5ad", member), IMAGE)
    assert np.array_equal(read(tmp_path / "one.h5ad", "grey")[:, :, 2], IMAGE[:, :, 0])
    assert "floats from" in refusal(tmp_path / "one.h5ad", "log")
    assert "uint16" in refusal(tmp_path / "one.h5ad", "deep")
    assert "shape (2, 30, 40, 3)" in refusal(tmp_path / "one.h5ad", "many")
    assert "not an array" in refusal(tmp_path / "one.h5ad", "group")
    assert "not an array" in refusal(tmp_path / "one.h5ad", "none")


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_ome_zarr_with_its_levels(tmp_path: Path, zarr_format: int) -> None:
    import zarr

    root = zarr.open_group(tmp_path / "data.zarr", mode="w", zarr_format=zarr_format)
    group = root.create_group("images/he")
    levels = [IMAGE, halved(IMAGE), halved(IMAGE, 2)]
    for number, level in enumerate(levels):
        array = group.create_array(str(number), shape=(3, *level.shape[:2]), chunks=(3, 64, 64), dtype="uint8")
        array[:] = np.moveaxis(level, 2, 0)
    images = [{"axes": [{"name": axis} for axis in "cyx"], "datasets": [{"path": str(number)} for number in range(3)]}]
    group.attrs.update({"multiscales": images} if zarr_format == 2 else {"ome": {"multiscales": images}})
    with opened(tmp_path / "data.zarr", "images/he") as pixels:
        assert [level.shrink_x for level in pixels.levels] == [1, 2, 4]
        assert all(np.array_equal(whole(pixels, number), level) for number, level in enumerate(levels))
    assert np.array_equal(read(tmp_path / "data.zarr", "images/he/1"), levels[1])  # an array itself
    assert "without `multiscales`" in refusal(tmp_path / "data.zarr", "images")
    assert "cannot be read as zarr" in refusal(tmp_path / "data.zarr", "images/none")
    chunk = sorted(
        path for path in (tmp_path / "data.zarr/images/he/0").rglob("*") if path.suffix != ".json" and path.is_file()
    )
    chunk = [path for path in chunk if path.name not in (".zarray", ".zattrs")][-1]
    chunk.write_bytes(chunk.read_bytes()[:20])
    assert "0: rows 0 to 300" in refusal(tmp_path / "data.zarr", "images/he")


# --- pyramids -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flat", [False, True])
def test_levels_of_a_pyramid_are_found(tmp_path: Path, flat: bool) -> None:
    image = picture(301, 421)
    with opened(write_pyramid(tmp_path / "image.tif", image, 3, flat)) as pixels:
        assert [level.shrink_x for level in pixels.levels] == [1, 2, 4, 8]
        assert np.array_equal(whole(pixels), image)
        assert np.array_equal(whole(pixels, 3), halved(image, 3))


def test_a_large_crop_comes_from_the_level_that_suffices(tmp_path: Path) -> None:
    image = picture(1500, 1700)
    size = compute_crop_size(1100, 1.0)  # 1,100 px stored at 224: a factor of 4.9, so level 2 (a factor of 4) suffices
    fill, centre = np.zeros(3, np.uint8), np.array([777.3, 690.9])
    with opened(write_pyramid(tmp_path / "image.tif", image, 3, flat=False)) as pixels:
        asked: list[int] = []
        region = pixels.region
        pixels.region = lambda *args: asked.append(args[4]) or region(*args)
        for at in (centre, np.array([3.0, 1490.0])):
            patch = cut_crop(pixels, at, size, fill)
            slow = cut_crop(ArrayPixels(image), at, size, fill)
            assert patch.shape == slow.shape == (224, 224, 3)
            assert np.abs(patch.astype(int) - slow).mean() < 2.5
            shifted = np.abs(np.roll(patch, 1, axis=1).astype(int) - slow).mean()
            assert np.abs(patch.astype(int) - slow).mean() < shifted / 2  # in place to well below a pixel
        assert set(asked) == {2}
        asked.clear()
        assert np.array_equal(
            cut_crop(pixels, centre, compute_crop_size(150, 1.0), fill),
            cut_crop(ArrayPixels(image), centre, compute_crop_size(150, 1.0), fill),
        )
        assert set(asked) == {0}


def test_level_for_is_never_coarser_than_what_is_stored() -> None:
    levels = tuple(
        make_level((60_001, 40_000), size) for size in ((60_001, 40_000), (30_000, 20_000), (15_000, 10_000))
    )
    assert [level.shrink_x for level in levels] == [1, 2, 4]
    assert [choose_level(levels, shrink) for shrink in (1, 1.99, 2, 3.99, 4, 100)] == [0, 0, 1, 1, 2, 2]
    uneven = make_level((1000, 1000), (370, 370))
    assert uneven.shrink_x == pytest.approx(1000 / 370)


@pytest.mark.parametrize("size", [(300, 420), (1300, 1700), (1999, 640), (90, 3001)])
def test_thumbnail_is_pillows_to_the_byte(monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]) -> None:
    from data_prep.images import pixels

    image = picture(*size)
    shrink = max(1.0, max(size) / 600)
    wanted = (max(1, round(size[1] / shrink)), max(1, round(size[0] / shrink)))
    slow = np.asarray(Image.fromarray(image).resize(wanted, Image.Resampling.BOX, reducing_gap=2.0))
    monkeypatch.setattr(pixels, "BAND_BYTES", 100_000)
    assert np.array_equal(make_thumbnail(ArrayPixels(image), 600), slow)


def test_border_of_a_pyramid_is_that_of_the_image(tmp_path: Path) -> None:
    image = np.full((1500, 1700, 3), 90, np.uint8)
    image[:16] = image[-16:] = [230, 228, 231]
    image[:, :16] = image[:, -16:] = [230, 228, 231]
    with opened(write_pyramid(tmp_path / "image.tif", image, 2, flat=False)) as pixels:
        assert (
            measure_border_colour(pixels).tolist()
            == measure_border_colour(ArrayPixels(image)).tolist()
            == [230, 228, 231]
        )


def test_blocks_are_kept_up_to_the_limit_and_read_once_in_bands(tmp_path: Path) -> None:
    image = picture(640, 640)
    path = write_tiff(tmp_path / "image.tif", image, photometric="rgb", tile=(64, 64), compression="zlib")
    with opened(path, cache_bytes=20 * 64 * 64 * 3) as pixels:
        assert pixels.band_px is not None
        blocks, reads = pixels._blocks[0], []
        plain = blocks.read
        blocks.read = lambda row, column: reads.append((row, column)) or plain(row, column)
        for x in range(0, 640, 16):
            for y in range(0, 640, 80):
                assert np.array_equal(pixels.region(x, y, x + 16, y + 80), image[y : y + 80, x : x + 16])
                assert sum(block.nbytes for block in pixels._cache.values()) <= pixels.cache_bytes
        assert len(reads) == 100
    with opened(path) as pixels:
        assert pixels.band_px is None  # all of it fits, so order does not matter
