"""Visium-like slides of any number of spots for the speed benchmarks: real sizes, no biology."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import sparse

from data_prep.slide.slide import Slide, SlideImage

GENES, GENES_A_SPOT = 18_085, 3_000
"""A human probe panel, and about as many genes as a spot of a good section has counts of."""

STAIN_PX, TIFF_TILE = 2048, 512


def gene_ids() -> np.ndarray:
    """[GENES] Ensembl-like ids, not in their order, as in a real matrix (which follows the genome)."""
    ids = np.array([f"ENSG{number:011d}" for number in range(1, GENES + 1)], dtype=object)
    return np.random.default_rng(0).permutation(ids)


def hex_grid(spots: int) -> np.ndarray:
    """int32 [spots, 2], (column in half pitches, row), about as wide as high."""
    columns = round((spots * np.sqrt(3) / 2) ** 0.5)
    number = np.arange(spots)
    row = number // columns
    return np.stack([2 * (number % columns) + row % 2, row], axis=1).astype(np.int32)


def positions(grid: np.ndarray, pitch_px: float) -> np.ndarray:
    """float64 [N, 2], (x, y) px, two pitches off the image's edge."""
    return np.stack([grid[:, 0] / 2 + 2, grid[:, 1] * np.sqrt(3) / 2 + 2], axis=1) * pitch_px


def counts(spots: int, seed: int, genes_a_spot: int = GENES_A_SPOT) -> sparse.csr_matrix:
    """[spots, GENES] int32, about `genes_a_spot` a row, small counts and a few large ones."""
    random = np.random.default_rng(seed)
    gaps = random.integers(1, 2 * GENES // genes_a_spot, (spots, genes_a_spot))
    gene = np.cumsum(gaps, axis=1) - 1
    inside = gene < GENES
    bounds = np.concatenate([[0], np.cumsum(inside.sum(axis=1))])
    values = (1 / np.maximum(random.random(int(bounds[-1]), np.float32), 1 / 500)).astype(np.int32)
    return sparse.csr_matrix((values, gene[inside], bounds), shape=(spots, GENES))


def stain(seed: int, side: int = STAIN_PX) -> np.ndarray:
    """uint8 [side, side, 3]: pink and violet clouds of three sizes, dark nuclei and grain; tiles without a seam."""
    random = np.random.default_rng(seed)

    def cloud(scale: int) -> np.ndarray:
        coarse = random.random((side // scale, side // scale), np.float32)
        wrapped = Image.fromarray(np.pad(coarse, 2, mode="wrap"))
        size, edge = wrapped.width * scale, 2 * scale
        return np.asarray(wrapped.resize((size, size), Image.Resampling.BICUBIC))[edge:-edge, edge:-edge]

    tissue, nuclei, grain = cloud(128) + 0.5 * cloud(32), cloud(8), random.normal(0, 4, (side, side, 1))
    pink, violet, dark = (np.array(colour, np.float32) for colour in ([232, 170, 200], [190, 130, 185], [95, 60, 140]))
    colour = pink + (violet - pink) * np.clip(tissue - 0.3, 0, 1)[:, :, None]
    colour += (dark - colour) * (np.clip(nuclei - 0.72, 0, 0.12) / 0.12)[:, :, None]
    return np.clip(colour + grain, 0, 255).astype(np.uint8)


def repeated(tile: np.ndarray, width: int, height: int) -> np.ndarray:
    """uint8 [height, width, 3]: the tile again and again."""
    across, down = -(-width // tile.shape[1]), -(-height // tile.shape[0])
    return np.tile(tile, (down, across, 1))[:height, :width]


def write_jpeg(path: Path, image: np.ndarray) -> None:
    import simplejpeg

    path.write_bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(image), quality=90, colorsubsampling="420"))


def write_pyramid(path: Path, tile: np.ndarray, width: int, height: int, levels: int, quality: int = 90) -> None:
    """A pyramidal BigTIFF of JPEG tiles (TIFF_TILE px), written tile by tile: `tile` again and again at every level.

    Level k is the tile reduced by 2^k, so that the levels are those of one image. Each of the few different tiles is
    encoded once, so that an image of any size is written as fast as the disk takes it.
    """
    import tifffile

    common = {"tile": (TIFF_TILE, TIFF_TILE), "photometric": "ycbcr", "subsampling": (2, 2), "compression": "jpeg"}
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        for number in range(levels + 1):
            size = height >> number, width >> number
            part = np.asarray(Image.fromarray(tile).reduce(2**number)) if number else tile
            kind = {"subifds": levels} if number == 0 else {"subfiletype": 1}
            file.write(_jpeg_tiles(part, *size, quality), shape=(*size, 3), dtype="uint8", **kind, **common)


def _jpeg_tiles(part: np.ndarray, height: int, width: int, quality: int) -> Iterator[bytes]:
    import simplejpeg

    wide = repeated(part, part.shape[1] + TIFF_TILE, part.shape[0] + TIFF_TILE)
    encoded: dict[tuple[int, int], bytes] = {}
    for y in range(0, height, TIFF_TILE):
        for x in range(0, width, TIFF_TILE):
            top, left = y % part.shape[0], x % part.shape[1]
            if (top, left) not in encoded:
                square = np.ascontiguousarray(wide[top : top + TIFF_TILE, left : left + TIFF_TILE])
                encoded[top, left] = simplejpeg.encode_jpeg(square, quality=quality, colorsubsampling="420")
            yield encoded[top, left]


def slide(
    name: str,
    spots: int,
    image: Path,
    pitch_px: float,
    seed: int,
    xy: np.ndarray | None = None,
    genes_a_spot: int = GENES_A_SPOT,
) -> Slide:
    """A slide of `spots` spots over an image file.

    Args:
        pitch_px: image pixels between spots.
        xy: [spots, 2] px; None: `positions` of the grid.
        genes_a_spot: about so many genes have counts.
    """
    grid = hex_grid(spots)
    return Slide(
        name=name,
        source="synthetic",
        patient=name,
        barcodes=np.array([f"{number:06d}-1" for number in range(spots)]),
        xy=positions(grid, pitch_px) if xy is None else xy,
        counts=counts(spots, seed, genes_a_spot),
        gene_ids=gene_ids(),
        gene_symbols=np.full(GENES, "", dtype=object),
        image=SlideImage(image, "fullres"),
        pitch_um=100.0,
        spot_um=55.0,
        lattice="hex",
        grid=grid,
        labels={"domain": np.array(["a", "b", "c", "d"])[np.arange(spots) % 4]},
    )


def image_size(spots: int, pitch_px: float) -> tuple[int, int]:
    """(width, height) px of an image that leaves two pitches around the spots."""
    width, height = positions(hex_grid(spots), pitch_px).max(axis=0) + 2 * pitch_px
    return int(width), int(height)
