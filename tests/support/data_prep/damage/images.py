"""Image headers of absurd size or kind: none may cost memory, and none may become pixels."""

from __future__ import annotations

import io
import json
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import tifffile
from PIL import Image

from tests.support.data_prep.damage.case import Case
from tests.support.data_prep.damage.cohorts import BAD, GOOD, HEIGHT, WIDTH, Section
from tests.support.data_prep.damage.edits import Spoil, put, table

PICTURE = Section(BAD).image
PNG, JPEG, STIMAGE = f"{BAD}/full_image.png", f"{BAD}/full_image.jpg", f"Visium/image/{BAD}.png"
TIFF, LEGACY, HIRES = f"wsis/{BAD}.tif", f"{BAD}.jpg", f"{BAD}/spatial/tissue_hires_image.png"


def png(width: int, height: int, rows: int = 0, bits: int = 8, colour: int = 2) -> bytes:
    """A PNG whose header claims a size, with `rows` rows of it in the file."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    body = zlib.compress(bytes(1 + width * (bits // 8) * {0: 1, 2: 3}[colour]) * rows)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def saved(kind: str, image: Image.Image | None = None, **options: object) -> bytes:
    stream = io.BytesIO()
    (image or Image.fromarray(PICTURE)).save(stream, kind, **options)
    return stream.getvalue()


def jpeg(width: int, height: int) -> bytes:
    data = bytearray(saved("JPEG"))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def bmp(width: int, height: int) -> bytes:
    data = bytearray(saved("BMP"))
    data[18:26] = struct.pack("<ii", width, height)
    return bytes(data)


def tiff(*pages: np.ndarray, **options: object) -> bytes:
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream, bigtiff=True) as file:
        for page in pages:
            file.write(page, **{"photometric": "rgb", "compression": "zlib", **options})
    return stream.getvalue()


def tiff_of_size(width: int, height: int, **options: object) -> Spoil:
    def spoil(root: Path) -> None:
        (root / TIFF).write_bytes(tiff(PICTURE, **options))
        with tifffile.TiffFile(root / TIFF, mode="r+") as file:
            for name, value in (("ImageWidth", width), ("ImageLength", height)):
                tag = file.pages[0].tags[name]
                file.filehandle.seek(tag.valueoffset)
                file.filehandle.write(struct.pack({3: "<H", 4: "<I"}[int(tag.dtype)], value))

    return spoil


def tags(change: Callable[[tifffile.TiffPage], object]) -> Spoil:
    def spoil(root: Path) -> None:
        with tifffile.TiffFile(root / TIFF, mode="r+") as file:
            change(file.pages[0])

    return spoil


def tiles_beyond(page: tifffile.TiffPage) -> None:
    tag = page.tags["TileOffsets"]
    tag.overwrite([value + 10_000_000 for value in tag.value])


def tiles_never_written(page: tifffile.TiffPage) -> None:
    tag = page.tags["TileByteCounts"]
    tag.overwrite([0] * len(tag.value))


def picture_inside(change: Callable[[np.ndarray], np.ndarray]) -> Spoil:
    """Of an h5ad: uns['spatial'][...]['images']['hires']."""

    def edit(held: anndata.AnnData) -> None:
        images = held.uns["spatial"]["lib"]["images"]
        images["hires"] = change(images["hires"])

    return table(f"{BAD}.h5ad", edit)


def array_json(change: Callable[[dict[str, Any]], object]) -> Spoil:
    """The header of the store's image array."""

    def spoil(root: Path) -> None:
        for path in sorted((root / f"{BAD}.zarr/images/run_full_image").rglob("zarr.json")):
            held = json.loads(path.read_text())
            if held["node_type"] == "array":
                change(held)
                path.write_text(json.dumps(held))

    return spoil


def huge_chunks(held: dict[str, Any]) -> None:
    held["shape"] = [3, 2**20, 2**20]
    held["chunk_grid"]["configuration"]["chunk_shape"] = [3, 2**20, 2**20]


def no_chunks(root: Path) -> None:
    for chunks in sorted((root / f"{BAD}.zarr/images/run_full_image").rglob("c")):
        shutil.rmtree(chunks)


def half_of_the_rows() -> bytes:
    """A well-formed PNG but for its height: the rows that are there are the picture's."""
    data = bytearray(saved("PNG"))
    data[16:24] = struct.pack(">II", WIDTH, 2 * HEIGHT)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


def animated() -> bytes:
    """Two frames, of which the first is the other slide's picture."""
    frames = [Image.fromarray(picture) for picture in (Section(GOOD).image, PICTURE)]
    return saved("GIF", frames[0], save_all=True, append_images=frames[1:])


def small(mode: str) -> Image.Image:
    return Image.fromarray(PICTURE).convert(mode)


WIDE = (PICTURE.astype(np.uint16) * 257).copy()
CANNOT_HOLD = "by its header, which .* bytes cannot hold|by its header, and an image of its kind is decoded whole"

CASES = [
    *(
        Case("space_ranger", f"png_{width}x{height}", put(PNG, png(width, height)), rf"full_image\.png .*{said}")
        for width, height, said in (
            (60_000, 60_000, CANNOT_HOLD),
            (2**31 - 1, 2**31 - 1, CANNOT_HOLD + "|cannot be read as an image"),
            (2**31, 2, CANNOT_HOLD + "|cannot be read as an image"),
            (0, 0, "has 0 x 0 pixels|cannot be read as an image"),
        )
    ),
    Case(
        "space_ranger",
        "png_bomb_cut",
        put(PNG, png(5000, 5000, 5000)[:-4000]),
        r"full_image\.png cannot be read as an image",
    ),
    Case("space_ranger", "png_without_its_last_rows", put(PNG, half_of_the_rows()), "Not enough image data"),
    Case("space_ranger", "png_16_bit", put(PNG, png(WIDTH, HEIGHT, HEIGHT, 16)), "of 16 bits a channel; 8-bit RGB or"),
    Case("space_ranger", "png_16_bit_grey", put(PNG, png(WIDTH, HEIGHT, HEIGHT, 16, 0)), "mode 'I;16'.*8-bit RGB"),
    Case("space_ranger", "blank", put(PNG, png(WIDTH, HEIGHT, HEIGHT)), r"full_image\.png is of one colour"),
    Case("space_ranger", "animated", put(PNG, animated()), r"full_image\.png holds 2 frames; one image is wanted"),
    Case("space_ranger", "one_pixel", put(PNG, png(1, 1, 1)), r"of 54 spots lie outside .*\(1 x 1 px\)"),
    Case("space_ranger_1", "hires_60000", put(HIRES, png(60_000, 60_000)), rf"tissue_hires_image\.png .*{CANNOT_HOLD}"),
    Case(
        "geo",
        "gzip_60000",
        lambda root: (root / f"{BAD}_tissue_hires_image.png.gz").write_bytes(
            __import__("gzip").compress(png(60_000, 60_000))
        ),
        rf"tissue_hires_image\.png\.gz .*{CANNOT_HOLD}",
    ),
    *(
        Case("hd", f"jpeg_{width}x{height}", put(JPEG, jpeg(width, height)), said)
        for width, height, said in (
            (60_000, 60_000, rf"full_image\.jpg .*{CANNOT_HOLD}"),
            (0, 0, r"full_image\.jpg (has 0 x 0|cannot be read as an image)"),
            (5000, 5000, r"full_image\.jpg (cannot be read as an image|.*cannot hold)"),
        )
    ),
    *(
        Case("stimage", f"bmp_{width}x{height}", put(STIMAGE, bmp(width, height)), r"GSE1_GSM1\.png .*" + said)
        for width, height, said in (
            (60_000, 60_000, CANNOT_HOLD),
            (2**31 - 1, 2**31 - 1, CANNOT_HOLD + "|cannot be read"),
            (0, 0, "has 0 x 0 pixels|cannot be read as an image"),
        )
    ),
    Case(
        "stimage",
        "animated_png",
        put(STIMAGE, saved("PNG", save_all=True, append_images=[small("RGB").rotate(90)])),
        r"GSE1_GSM1\.png holds 2 frames",
    ),
    Case("hest", "strips_60000", tiff_of_size(60_000, 60_000, rowsperstrip=10), r"GSE1_GSM1\.tif .*lists \d+ strips"),
    Case("hest", "one_strip_60000", tiff_of_size(60_000, 60_000, rowsperstrip=300), r"GSE1_GSM1\.tif .*strips"),
    Case("hest", "tiles_60000", tiff_of_size(60_000, 60_000, tile=(64, 64)), r"GSE1_GSM1\.tif .*lists \d+ tiles where"),
    Case("hest", "tiles_2_31", tiff_of_size(2**31, 2**31, tile=(64, 64)), r"GSE1_GSM1\.tif .*lists \d+ tiles where"),
    Case(
        "hest",
        "size_0",
        tiff_of_size(0, 0, tile=(64, 64)),
        r"GSE1_GSM1\.tif .*(\(0, 0\) pixels|cannot be read as TIFF)",
    ),
    Case("hest", "tiles_beyond", tags(tiles_beyond), r"GSE1_GSM1\.tif level 0 .*35 of 35 tiles lie beyond the end"),
    Case("hest", "tiles_never_written", tags(tiles_never_written), r"GSE1_GSM1\.tif level 0 .*tile .* is missing"),
    Case("hest", "16_bit", put(TIFF, tiff(WIDE, tile=(64, 64))), r"GSE1_GSM1\.tif .*16"),
    Case(
        "hest", "two_pages", put(TIFF, tiff(PICTURE, PICTURE, tile=(64, 64))), r"GSE1_GSM1\.tif holds 2 pages of 420 x"
    ),
    Case("hest", "float", put(TIFF, tiff(PICTURE.astype(np.float32), tile=(64, 64))), r"GSE1_GSM1\.tif .*float"),
    Case("anndata", "floats_to_255", picture_inside(lambda image: image * 255), r"hires: .*holds floats from \d+ to 2"),
    Case("anndata", "uint16", picture_inside(lambda image: (image * 65535).astype(np.uint16)), "hires.* holds uint16"),
    Case("anndata", "nan", picture_inside(lambda image: np.where(image > 0.9, np.nan, image)), "hires: .*holds floats"),
    Case(
        "anndata",
        "two_channels",
        picture_inside(lambda image: image[..., :2]),
        r"has shape \(150, 210, 2\).*; \[height",
    ),
    Case("anndata", "flat", picture_inside(lambda image: image.ravel()), r"has shape \(94500,\).*; \[height"),
    Case("anndata", "empty", picture_inside(lambda image: image[:0]), r"has shape \(0, 210, 3\)"),
    Case("spatialdata", "huge_chunks", array_json(huge_chunks), r"GSE1_GSM1\.zarr .*"),
    Case("spatialdata", "no_chunks", no_chunks, r"run_full_image.* is of one colour"),
    Case("legacy_st", "png_60000", put(LEGACY, png(60_000, 60_000)), rf"GSE1_GSM1\.jpg .*{CANNOT_HOLD}"),
    Case("legacy_st", "bmp_60000", put(LEGACY, bmp(60_000, 60_000)), rf"GSE1_GSM1\.jpg .*{CANNOT_HOLD}"),
    Case("legacy_st", "webp_cut", put(LEGACY, saved("WEBP")[:400]), r"GSE1_GSM1\.jpg cannot be read as an image"),
]
