"""Damage of every kind against its message: what cannot be read is refused by name, before memory is asked for."""

from __future__ import annotations

import contextlib
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_prep.slide.slide import SlideError
from tests.support.data_prep.image_files import IMAGE, needs_proc, opened, read, refusal, write_pyramid, write_tiff


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


def tiff_of_size(path: Path, width: int, height: int, **options: object) -> Path:
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
