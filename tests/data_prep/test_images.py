"""Images of every kind against the array they were written from; damage of every kind against its message."""

from __future__ import annotations

import contextlib
import json
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_prep.crops import border_colour, crop, crop_size
from data_prep.images import Pixels, level_for, open_image, thumbnail
from data_prep.images.blocks import BlockPixels
from data_prep.images.pixels import level_of
from data_prep.images.whole import ArrayPixels
from data_prep.slide import SlideError, SlideImage


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth colours with grain: JPEG keeps it within a few grey values, and no two places look the same."""
    y, x = np.mgrid[:height, :width]
    grain = np.random.default_rng(seed).normal(0, 2, (height, width))
    return (
        np.stack([x % 200 + grain + 20, y % 190 + grain + 30, (x + y) % 180 + 40], axis=2).clip(0, 255).astype(np.uint8)
    )


def opened(path: Path, member: str = "", **options):
    return open_image("s", SlideImage(path, "fullres", member=member), **options)


def whole(pixels: Pixels, level: int = 0) -> np.ndarray:
    size = pixels.levels[level]
    return pixels.region(0, 0, size.width, size.height, level)


def read(path: Path, member: str = "") -> np.ndarray:
    with opened(path, member) as pixels:
        return whole(pixels)


def refusal(path: Path, member: str = "") -> str:
    """What opening and reading the whole image is refused with."""
    with pytest.raises(SlideError) as caught:
        read(path, member)
    assert str(path) in str(caught.value)
    return str(caught.value)


IMAGE = picture(300, 420)


def write_tiff(path: Path, image: np.ndarray = IMAGE, **options) -> Path:
    import tifffile

    tifffile.imwrite(path, image, **options)
    return path


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


def halved(image: np.ndarray, times: int = 1) -> np.ndarray:
    return np.asarray(Image.fromarray(image).reduce(2**times))


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


def write_pyramid(path: Path, image: np.ndarray, levels: int, flat: bool, **options) -> Path:
    """A tiled TIFF with levels of half, a quarter, ... of the size; in SubIFDs or in pages, between a label and a
    macro picture of other shapes."""
    import tifffile

    common = {"photometric": "rgb", "tile": (64, 64), **options}
    with tifffile.TiffWriter(path) as file:
        if flat:
            file.write(IMAGE[:30, :40], photometric="rgb", subfiletype=1)
        file.write(image, subifds=0 if flat else levels, **common)
        for number in range(1, levels + 1):
            file.write(halved(image, number), subfiletype=1, **common)
        if flat:
            file.write(IMAGE[:100, :40], photometric="rgb", subfiletype=1)
    return path


@pytest.mark.parametrize("flat", [False, True])
def test_levels_of_a_pyramid_are_found(tmp_path: Path, flat: bool) -> None:
    image = picture(301, 421)
    with opened(write_pyramid(tmp_path / "image.tif", image, 3, flat)) as pixels:
        assert [level.shrink_x for level in pixels.levels] == [1, 2, 4, 8]
        assert np.array_equal(whole(pixels), image)
        assert np.array_equal(whole(pixels, 3), halved(image, 3))


def test_a_large_crop_comes_from_the_level_that_suffices(tmp_path: Path) -> None:
    image = picture(1500, 1700)
    size = crop_size(1100, 1.0)  # 1,100 px stored at 224: a factor of 4.9, so level 2 (a factor of 4) suffices
    fill, centre = np.zeros(3, np.uint8), np.array([777.3, 690.9])
    with opened(write_pyramid(tmp_path / "image.tif", image, 3, flat=False)) as pixels:
        asked: list[int] = []
        region = pixels.region
        pixels.region = lambda *args: asked.append(args[4]) or region(*args)
        for at in (centre, np.array([3.0, 1490.0])):
            patch = crop(pixels, at, size, fill)
            slow = crop(ArrayPixels(image), at, size, fill)
            assert patch.shape == slow.shape == (224, 224, 3)
            assert np.abs(patch.astype(int) - slow).mean() < 2.5
            shifted = np.abs(np.roll(patch, 1, axis=1).astype(int) - slow).mean()
            assert np.abs(patch.astype(int) - slow).mean() < shifted / 2  # in place to well below a pixel
        assert set(asked) == {2}
        asked.clear()
        assert np.array_equal(
            crop(pixels, centre, crop_size(150, 1.0), fill), crop(ArrayPixels(image), centre, crop_size(150, 1.0), fill)
        )
        assert set(asked) == {0}


def test_level_for_is_never_coarser_than_what_is_stored() -> None:
    levels = tuple(level_of((60_001, 40_000), size) for size in ((60_001, 40_000), (30_000, 20_000), (15_000, 10_000)))
    assert [level.shrink_x for level in levels] == [1, 2, 4]
    assert [level_for(levels, shrink) for shrink in (1, 1.99, 2, 3.99, 4, 100)] == [0, 0, 1, 1, 2, 2]
    uneven = level_of((1000, 1000), (370, 370))
    assert uneven.shrink_x == pytest.approx(1000 / 370)


@pytest.mark.parametrize("size", [(300, 420), (1300, 1700), (1999, 640), (90, 3001)])
def test_thumbnail_is_pillows_to_the_byte(monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]) -> None:
    from data_prep.images import pixels

    image = picture(*size)
    shrink = max(1.0, max(size) / 600)
    wanted = (max(1, round(size[1] / shrink)), max(1, round(size[0] / shrink)))
    slow = np.asarray(Image.fromarray(image).resize(wanted, Image.Resampling.BOX, reducing_gap=2.0))
    monkeypatch.setattr(pixels, "BAND_BYTES", 100_000)
    assert np.array_equal(thumbnail(ArrayPixels(image), 600), slow)


def test_border_of_a_pyramid_is_that_of_the_image(tmp_path: Path) -> None:
    image = np.full((1500, 1700, 3), 90, np.uint8)
    image[:16] = image[-16:] = [230, 228, 231]
    image[:, :16] = image[:, -16:] = [230, 228, 231]
    with opened(write_pyramid(tmp_path / "image.tif", image, 2, flat=False)) as pixels:
        assert border_colour(pixels).tolist() == border_colour(ArrayPixels(image)).tolist() == [230, 228, 231]


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


# --- what cannot be read is refused by name, before memory is asked for ---------------------------------------------


def png_of_size(width: int, height: int, body: bytes = b"") -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(body)) + chunk(b"IEND", b"")


def jpeg_of_size(width: int, height: int, path: Path) -> bytes:
    Image.fromarray(IMAGE[:16, :16]).save(path, "JPEG")
    data = bytearray(path.read_bytes())
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def tiff_of_size(path: Path, width: int, height: int, **options) -> Path:
    import tifffile

    write_tiff(path, photometric="rgb", **options)
    with tifffile.TiffFile(path, mode="r+") as file:
        for name, value in (("ImageWidth", width), ("ImageLength", height)):
            tag = file.pages[0].tags[name]
            file.filehandle.seek(tag.valueoffset)
            file.filehandle.write(struct.pack({3: "<H", 4: "<I"}[int(tag.dtype)], value))
    return path


def peak_kb() -> int:
    """The most memory that this process had. Not getrusage's ru_maxrss, which a process inherits from its parent."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))


needs_proc = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is read from /proc")


@needs_proc
@pytest.mark.parametrize("size", [(60_000, 60_000), (30_000, 30_000), (4_000_000_000, 2)])
@pytest.mark.parametrize("kind", ["png", "jpeg", "strips", "one-strip", "tiles", "bmp"])
def test_absurd_sizes_are_refused_before_memory_is_asked_for(tmp_path: Path, kind: str, size: tuple[int, int]) -> None:
    path = tmp_path / "image.png"
    width, height = size
    if kind == "png":
        path.write_bytes(png_of_size(width % 2**31, height))
    elif kind == "jpeg":
        path.write_bytes(jpeg_of_size(min(width, 65_500), height, path))
    elif kind == "bmp":
        Image.fromarray(IMAGE).save(path, "BMP")
        data = bytearray(path.read_bytes())
        data[18:26] = struct.pack("<ii", min(width, 2**31 - 1), height)
        path.write_bytes(data)
    else:
        layout = {"strips": {"rowsperstrip": 10}, "one-strip": {"rowsperstrip": 300}, "tiles": {"tile": (64, 64)}}[kind]
        tiff_of_size(path, width, height, compression="zlib", bigtiff=True, **layout)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = peak_kb()
    assert refusal(path)
    assert peak_kb() - before < 100_000


@pytest.mark.parametrize("kind", ["jpeg", "progressive", "png", "bmp", "gif", "webp"])
@pytest.mark.parametrize("kept", [0.02, 0.5, 0.97])
def test_cut_plain_images_are_refused(tmp_path: Path, kind: str, kept: float) -> None:
    path = tmp_path / "image.png"
    if kind == "progressive":
        Image.fromarray(IMAGE).save(path, "JPEG", progressive=True)
    else:
        Image.fromarray(IMAGE).save(path, kind)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    assert "cannot be read as an image" in refusal(path) or "cannot hold" in refusal(path)


COMPRESSIONS = ["none", "lzw", "zlib", "zstd", "packbits", "lzma", "jpeg", "jpeg2000", "webp"]


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("layout", ["tiles", "strips"])
def test_a_short_tile_or_strip_is_named(tmp_path: Path, compression: str, layout: str) -> None:
    """The tile's bytes are listed as half of what they are, as where a transfer or a writer was cut off."""
    import tifffile

    options = {"tile": (64, 64)} if layout == "tiles" else {"rowsperstrip": 64}
    path = write_tiff(
        tmp_path / "image.tif",
        IMAGE[:256],
        photometric="rgb",
        compression=None if compression == "none" else compression,
        **options,
    )
    with tifffile.TiffFile(path, mode="r+") as file:
        tag = file.pages[0].tags["TileByteCounts" if layout == "tiles" else "StripByteCounts"]
        counts = list(tag.value)
        counts[2] //= 2
        tag.overwrite(counts)
    named = "tile (column 2, row 0)" if layout == "tiles" else "strip 2"
    said = refusal(path)
    assert f"level 0 (420 x 256 px), {named} is damaged" in said
    with opened(path) as pixels:  # what is whole can still be read
        assert np.abs(pixels.region(0, 0, 60, 60).astype(int) - IMAGE[:60, :60]).mean() < 10


@pytest.mark.parametrize("compression", ["zlib", "zstd", "lzma", "jpeg", "jpeg2000"])
def test_bytes_of_nothing_in_a_tile_never_become_pixels(tmp_path: Path, compression: str) -> None:
    """A tile whose later half is zeros, as a sparse copy leaves it. Without compression, in
    LZW, PackBits and WebP nothing tells it from an image."""
    import tifffile

    path = write_tiff(tmp_path / "image.tif", photometric="rgb", compression=compression, tile=(64, 64))
    with tifffile.TiffFile(path) as file:
        offset, count = file.pages[0].dataoffsets[9], file.pages[0].databytecounts[9]
    data = bytearray(path.read_bytes())
    data[offset + count // 2 : offset + count] = bytes(count - count // 2)
    path.write_bytes(data)
    assert "tile (column 2, row 1) is damaged" in refusal(path)


@pytest.mark.parametrize(
    "options",
    [{"tile": (64, 64)}, {"rowsperstrip": 16}, {"rowsperstrip": 300}, {"tile": (64, 64), "compression": "jpeg"}],
)
def test_a_cut_tiff_is_refused_when_it_is_opened(tmp_path: Path, options: dict) -> None:
    path = write_tiff(tmp_path / "image.tif", photometric="rgb", **options)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(SlideError, match="beyond the end of the file"), opened(path):
        pass


def test_a_tile_that_was_never_written_is_named(tmp_path: Path) -> None:
    import tifffile

    tiles = (IMAGE[:64, :64] if number != 5 else None for number in range(5 * 7))
    tifffile.imwrite(
        tmp_path / "image.tif",
        tiles,
        shape=(300, 420, 3),
        dtype="uint8",
        tile=(64, 64),
        photometric="rgb",
        compression="zlib",
    )
    assert "tile (column 5, row 0) is missing" in refusal(tmp_path / "image.tif")


def test_a_picture_in_a_tile_that_claims_another_size_is_refused(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "image.tif", photometric="rgb", compression="jpeg", tile=(64, 64))
    data = bytearray(path.read_bytes())
    at = data.index(b"\xff\xc0", data.index(b"\xff\xd8", 200))
    data[at + 5 : at + 9] = struct.pack(">HH", 65_000, 65_000)
    path.write_bytes(data)
    assert "65000 x 65000 px where 64 x 64" in refusal(path)


@pytest.mark.parametrize(
    ("array", "options", "said"),
    [
        (IMAGE.astype(np.uint16) * 257, {"photometric": "rgb"}, "16-bit whole samples"),
        ((IMAGE / 255).astype(np.float32), {"photometric": "rgb"}, "32-bit float samples"),
        (IMAGE[:, :, 0].astype(np.int8), {"photometric": "minisblack"}, "8-bit signed samples"),
        (np.stack([IMAGE, IMAGE]), {"photometric": "rgb"}, "holds 2 pages of 420 x 300"),
        (np.stack([IMAGE[:, :, 0]] * 5), {"photometric": "minisblack"}, "holds 5 pages of 420 x 300"),
        (np.dstack([IMAGE, IMAGE]), {"photometric": "minisblack", "planarconfig": "contig"}, "6 samples a pixel"),
    ],
)
def test_tiffs_without_plain_colours_are_refused(tmp_path: Path, array: np.ndarray, options: dict, said: str) -> None:
    assert said in refusal(write_tiff(tmp_path / "image.tif", array, **options))


def test_pngs_without_plain_colours_are_refused(tmp_path: Path) -> None:
    import imagecodecs

    Image.fromarray(np.zeros((9, 9), np.uint16)).save(tmp_path / "grey.png")
    assert "mode 'I;16'" in refusal(tmp_path / "grey.png")
    (tmp_path / "colour.png").write_bytes(imagecodecs.png_encode(IMAGE.astype(np.uint16) * 257))
    assert "16 bits a channel" in refusal(tmp_path / "colour.png")


@pytest.mark.parametrize("seed", range(6))
def test_damage_anywhere_is_a_slide_error_or_nothing(tmp_path: Path, seed: int) -> None:
    """Forty damaged copies of a few small files: each is read or refused, none ends in another error."""
    import h5py

    random = np.random.default_rng(seed)
    image = IMAGE[:60, :70]
    path = tmp_path / "image"
    if seed == 0:
        write_pyramid(path, image, 1, flat=False, compression="zlib")
    elif seed == 1:
        write_tiff(path, image, photometric="rgb", compression="jpeg", tile=(16, 16))
    elif seed == 2:
        write_tiff(path, image, photometric="rgb", compression="lzw", rowsperstrip=8, bigtiff=True)
    elif seed == 5:
        with h5py.File(path, "w") as file:
            file.create_dataset("he", data=image, chunks=(20, 20, 3), compression="gzip")
    else:
        Image.fromarray(image).save(path, "PNG" if seed == 3 else "JPEG")
    intact = path.read_bytes()
    for _ in range(40):
        data = bytearray(intact)
        for at in random.integers(
            0, len(data) if random.random() < 0.5 else min(len(data), 400), random.integers(1, 6)
        ):
            data[at] = random.integers(256)
        path.write_bytes(data)
        with contextlib.suppress(SlideError):
            read(path, "he" if seed == 5 else "")


def test_other_files_and_missing_ones_are_refused(tmp_path: Path) -> None:
    files = {"empty.png": b"", "text.jpg": b"hello", "short.tif": b"II*\0", "zeros.tif": b"II*\0\x08" + bytes(43)}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        assert "cannot be read as" in refusal(tmp_path / name)
    assert "has no image" in refusal(tmp_path / "none.png")
    (tmp_path / "folder.zarr").mkdir()
    assert "cannot be read as zarr" in refusal(tmp_path / "folder.zarr")


# --- memory ---------------------------------------------------------------------------------------------------------

MEASURE = """
import json, sys
import numpy as np
from pathlib import Path
import simplejpeg, tifffile, imagecodecs
from data_prep.crops import border_colour, crop, crop_size
from data_prep.images import open_image, thumbnail
from data_prep.slide import SlideImage
def peak(): return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
warm = np.zeros((64, 64, 3), np.uint8)
tifffile.imwrite(sys.argv[2], warm, tile=(64, 64), compression="jpeg", photometric="rgb")
def visit(path, step):
    with open_image("s", SlideImage(Path(path), "fullres")) as pixels:
        fill = border_colour(pixels)
        for y in range(0, pixels.height, step):
            for x in range(0, pixels.width, step):
                crop(pixels, np.array([x, y]), crop_size(1000, 1.0), fill)
                crop(pixels, np.array([x, y]), crop_size(110, 1.0), fill)
        thumbnail(pixels, 600)
        return pixels.width * pixels.height * 3
visit(sys.argv[2], 64)
before = peak()
decoded = visit(sys.argv[1], int(sys.argv[3]))
print(json.dumps({"peak": peak() - before, "decoded": decoded}))
"""


def memory(path: Path, step: int) -> dict[str, int]:
    """Peak memory of a process of its own over visiting an image, and the bytes of the image, decoded."""
    command = [sys.executable, "-c", MEASURE, str(path), str(path.parent / "warm.tif"), str(step)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@needs_proc
@pytest.mark.parametrize("kind", ["jpeg", "png"])
def test_a_plain_image_takes_its_own_size(tmp_path: Path, kind: str) -> None:
    """6,000 x 6,000 px, 108 MB: at most one and a half times that, crops, border and thumbnail included."""
    tile = Image.fromarray(picture(600, 600))
    image = Image.new("RGB", (6000, 6000))
    for x in range(0, 6000, 600):
        for y in range(0, 6000, 600):
            image.paste(tile, (x, y))
    image.save(tmp_path / "image", kind, **({"compress_level": 1} if kind == "png" else {}))
    used = memory(tmp_path / "image", 1500)
    assert used["decoded"] == 6000 * 6000 * 3
    assert used["peak"] < 1.5 * used["decoded"]


@needs_proc
def test_a_large_pyramid_takes_no_more_than_its_cache(tmp_path: Path) -> None:
    """20,000 x 20,000 px, 1.2 GB decoded: every tile the same picture."""
    import tifffile

    tile = picture(512, 512)

    def tiles(side: int) -> Iterator[np.ndarray]:
        return (tile for _ in range((-(-side // 512)) ** 2))

    with tifffile.TiffWriter(tmp_path / "image.tif", bigtiff=True) as file:
        common = {"dtype": "uint8", "tile": (512, 512), "photometric": "rgb", "compression": "jpeg"}
        common["compressionargs"] = {"level": 30}
        file.write(tiles(20_000), shape=(20_000, 20_000, 3), subifds=2, **common)
        for shrink in (4, 16):
            file.write(tiles(20_000 // shrink), shape=(20_000 // shrink, 20_000 // shrink, 3), subfiletype=1, **common)
    used = memory(tmp_path / "image.tif", 700)
    assert used["decoded"] == 1_200_000_000
    assert used["peak"] < 400 << 20
