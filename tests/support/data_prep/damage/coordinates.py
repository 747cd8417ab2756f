"""Positions that are swapped, scaled, shifted, another slide's, or of an image that was mirrored."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from PIL import Image

from tests.support.data_prep.damage.case import Case
from tests.support.data_prep.damage.cohorts import BAD, COLUMNS, HEIGHT, LAYOUTS, ROWS, WIDTH
from tests.support.data_prep.damage.edits import Spoil, put, rows, store, table, text

if TYPE_CHECKING:
    from spatialdata import SpatialData

POSITIONS = f"{BAD}/spatial/tissue_positions.csv"
Move = Callable[[np.ndarray], np.ndarray]
"""[N, 2] (x, y) -> [N, 2]."""

PICTURES = {"space_ranger": f"{BAD}/full_image.png", "stimage": f"Visium/image/{BAD}.png", "legacy_st": f"{BAD}.jpg"}


def moved(layout: str, move: Move) -> Spoil:
    """Change the positions where the layout has them, and nothing else."""

    def frame(name: str, x: str, y: str, separator: str = ",", names: list[str] | None = None) -> Spoil:
        def spoil(root: Path) -> None:
            held = pd.read_csv(root / name, sep=separator, names=names)
            held[[x, y]] = move(held[[x, y]].to_numpy(float))
            held.to_csv(root / name, sep=separator, index=False, header=names is None)

        return spoil

    def coordinates(root: Path) -> None:
        path = root / f"Visium/coord/{BAD}_coord.csv"
        held = pd.read_csv(path, index_col=0)
        held[["xaxis", "yaxis"]] = move(held[["xaxis", "yaxis"]].to_numpy(float))
        held.to_csv(path)

    def parquet(root: Path) -> None:
        path = root / f"{BAD}/binned_outputs/square_016um/spatial/tissue_positions.parquet"
        held = pd.read_parquet(path)
        held[["pxl_col_in_fullres", "pxl_row_in_fullres"]] = move(held.iloc[:, [5, 4]].to_numpy(float))
        held.to_parquet(path)

    def shapes(held: SpatialData) -> None:
        import geopandas

        circles = held.shapes["run"]
        xy = move(np.stack([circles.geometry.x, circles.geometry.y], 1))
        circles["geometry"] = geopandas.points_from_xy(*xy.T)

    def obsm(name: str) -> Spoil:
        return table(name, lambda held: held.obsm.update(spatial=move(held.obsm["spatial"])))

    pixels = ("pxl_col_in_fullres", "pxl_row_in_fullres")
    six = ["barcode", "in_tissue", "array_row", "array_col", *pixels[::-1]]
    return {
        "space_ranger": frame(POSITIONS, *pixels),
        "space_ranger_1": frame(f"{BAD}/spatial/tissue_positions_list.csv", *pixels, names=six),
        "geo": frame(f"{BAD}_tissue_positions_list.csv.gz", *pixels, names=six),
        "hd": parquet,
        "stimage": coordinates,
        "hest": obsm(f"st/{BAD}.h5ad"),
        "anndata": obsm(f"{BAD}.h5ad"),
        "spatialdata": store(f"{BAD}.zarr", shapes),
        "legacy_st": frame(f"{BAD}_coordinates.tsv", "pixel_x", "pixel_y", "\t"),
    }[layout]


def swapped(xy: np.ndarray) -> np.ndarray:
    return xy[:, ::-1].copy()


def tall(xy: np.ndarray) -> np.ndarray:
    return xy * [1, 1.5]


def wide(xy: np.ndarray) -> np.ndarray:
    return xy * [1.5, 1]


def halved(xy: np.ndarray) -> np.ndarray:
    return xy * 0.5


def off(xy: np.ndarray) -> np.ndarray:
    return xy + np.array([WIDTH, 0])


def aside(xy: np.ndarray) -> np.ndarray:
    """On the image, off the tissue."""
    return xy + np.array([95, 110])


def equal(xy: np.ndarray) -> np.ndarray:
    return np.full_like(xy, 100.0)


def shuffled(xy: np.ndarray) -> np.ndarray:
    return xy[np.random.default_rng(0).permutation(len(xy))]


def missing_one(xy: np.ndarray) -> np.ndarray:
    return np.where(np.arange(len(xy))[:, None] == 3, np.nan, xy)


def mirrored(name: str, flip: Image.Transpose) -> Spoil:
    def spoil(root: Path) -> None:
        with Image.open(root / name) as image:
            image.transpose(flip).save(root / name)

    return spoil


def of_another_slide(root: Path) -> None:
    """The same array on another section: other spots are in tissue, and all lie elsewhere."""
    moved("space_ranger", aside)(root)
    half = ROWS * COLUMNS // 2
    seen = iter(range(ROWS * COLUMNS))
    rows(POSITIONS, lambda cells: [cells[0], str(int(next(seen) >= half)), *cells[2:]])(root)
    extra = "".join(
        f"{'T' * 10}{'ACGT'[n // 4 % 4]}{'ACGT'[n % 4]}AAAA-1,1,{7 + n // 9},{2 * (n % 9) + (7 + n // 9) % 2},"
        f"{60 + 17 * (n // 9)},{230 + 20 * (n % 9)}\n"
        for n in range(16)
    )
    text(POSITIONS, lambda content: content + extra)(root)


def hires_pixels(root: Path) -> None:
    """A large image, and positions in pixels of its reduction to 2,000 px, on a section in the lower right."""
    with Image.open(root / f"{BAD}.jpg") as image:
        pixels = np.roll(np.asarray(image.resize((10 * WIDTH, 10 * HEIGHT))), (1400, 1800), axis=(0, 1))
    Image.fromarray(pixels).save(root / f"{BAD}.jpg")
    moved("legacy_st", lambda xy: (10 * xy + [1800, 1400]) * 2000 / (10 * WIDTH))(root)


CASES = [
    *(Case(layout, "swapped", moved(layout, swapped), "with x and y swapped", "orientation") for layout in LAYOUTS),
    *(
        Case(layout, "off_the_image", moved(layout, off), r"54 of 54 spots lie outside .*\(\d+ x \d+ px\)")
        for layout in LAYOUTS
    ),
    *(
        Case(
            layout,
            "aside",
            moved(layout, aside),
            r"\d% of the spots' area .* shifted by \(-\d+, -1\d\d\) px",
            "orientation",
        )
        for layout in ("space_ranger", "stimage", "hest", "legacy_st")
    ),
    *(
        Case(layout, f"one_axis_{move.__name__}", moved(layout, move), "the array is stretched", "grid")
        for layout in ("space_ranger_1", "anndata", "spatialdata", "legacy_st", "stimage", "hest")
        for move in (tall, wide)
    ),
    *(
        Case(layout, "halved", moved(layout, halved), said, "scale")
        for layout, said in (
            ("space_ranger", r"the spots' diameter is stated as 13\.0 px, 1\.30 of the 10\.0 px"),
            ("hd", r"metadata says 0\.8 um per pixel, the lattice 1\.6"),
            ("stimage", r"the spots' diameter is stated as 13\.0 px"),
            ("hest", r"catalogue says 5 um per pixel, the lattice 10"),
            ("anndata", r"the spots' diameter is stated as 13\.0 px"),
            ("spatialdata", r"the spots' diameter is stated as 13\.0 px"),
        )
    ),
    Case(
        "legacy_st", "hires_pixels", hires_pixels, "positions read as pixels of a hires image of 2000 px", "orientation"
    ),
    *(
        Case(layout, "all_equal", moved(layout, equal), "lie on one another")
        for layout in ("space_ranger", "stimage", "hest", "spatialdata", "legacy_st")
    ),
    *(
        Case(
            layout, "shuffled", moved(layout, shuffled), "positions stray .* Are positions and barcodes of one", "grid"
        )
        for layout in ("space_ranger_1", "geo", "anndata", "legacy_st")
    ),
    *(
        Case(layout, "one_not_finite", moved(layout, missing_one), "finite|is ''; a number is wanted")
        for layout in ("space_ranger", "stimage", "hest", "anndata", "legacy_st")
    ),
    *(
        Case(layout, f"mirrored_{word}", mirrored(name, flip), f"with the image {said}", "orientation")
        for layout, name in PICTURES.items()
        for word, flip, said in (
            ("left", Image.Transpose.FLIP_LEFT_RIGHT, "mirrored left to right"),
            ("down", Image.Transpose.FLIP_TOP_BOTTOM, "mirrored top to bottom"),
            ("half_turn", Image.Transpose.ROTATE_180, "turned by 180 degrees"),
        )
    ),
    Case(
        "space_ranger",
        "of_another_slide",
        of_another_slide,
        r"tissue_positions\.csv: 27 of the filtered matrix's 54 spots are not in tissue, and 16 .*another slide's",
    ),
    Case(
        "space_ranger",
        "infinite",
        rows(POSITIONS, lambda cells: [*cells[:5], "inf"]),
        "54 positions are not finite",
    ),
    Case(
        "space_ranger_1",
        "negative_scale",
        put(f"{BAD}/spatial/scalefactors_json.json", b'{"tissue_hires_scalef": -0.5}'),
        r"scalefactors_json\.json: tissue_hires_scalef is -0\.5; a number above 0",
    ),
    Case(
        "space_ranger_1",
        "scale_of_lowres",
        text(f"{BAD}/spatial/scalefactors_json.json", lambda content: content.replace('scalef": 0.5', 'scalef": 5')),
        r"of 54 spots lie outside .*hires_image\.png .*Is the image's scale \(5 image pixels",
    ),
]
