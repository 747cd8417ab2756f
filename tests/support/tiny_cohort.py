"""A tiny cohort of Space Ranger folders, written by hand for the tests: three patients, three domains, real pixels."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
from PIL import Image

UM_PER_PX = 2.0
PITCH_PX = 100 / UM_PER_PX
ROWS, COLUMNS = 8, 8
GENES = 40
DOMAINS = ("core", "belt", "rim")
SLIDES = {"tiny_1": "P1", "tiny_2": "P2", "tiny_3": "P3"}


def write_matrix(path: Path, barcodes: list[str], ids: list[str], symbols: list[str], counts: np.ndarray) -> None:
    """A Cell Ranger 3 HDF5 matrix; counts [spots, genes]."""
    spot, gene = np.nonzero(counts)
    with h5py.File(path, "w") as file:
        matrix = file.create_group("matrix")
        matrix["barcodes"] = np.array(barcodes, dtype="S")
        matrix["data"] = counts[spot, gene]
        matrix["indices"] = gene.astype(np.int64)
        matrix["indptr"] = np.concatenate([[0], np.cumsum(np.bincount(spot, minlength=len(barcodes)))]).astype(np.int64)
        matrix["shape"] = np.array([len(ids), len(barcodes)], np.int32)
        features = matrix.create_group("features")
        features["id"] = np.array(ids, dtype="S")
        features["name"] = np.array(symbols, dtype="S")
        features["feature_type"] = np.array(["Gene Expression"] * len(ids), dtype="S")
        features["genome"] = np.array(["GRCh38"] * len(ids), dtype="S")
        features["_all_tag_keys"] = np.array(["genome"], dtype="S")


def write_spatial(folder: Path, barcodes: list[str], grid: np.ndarray, xy: np.ndarray, image: np.ndarray) -> None:
    """spatial/ with header (version 2), a hires image at scale .5 and a lowres image at scale .25."""
    spatial = folder / "spatial"
    spatial.mkdir(parents=True, exist_ok=True)
    rows = ["barcode,in_tissue,array_row,array_col,pxl_row_in_fullres,pxl_col_in_fullres"]
    rows += [
        f"{barcode},1,{row},{column},{y},{x}" for barcode, (column, row), (x, y) in zip(barcodes, grid, xy, strict=True)
    ]
    rows.append(f"OFFTISSUE-1,0,{grid[:, 1].max() + 1},{grid[:, 0].max() + 1},0,0")
    (spatial / "tissue_positions.csv").write_text("\n".join(rows) + "\n")
    factors = {
        "tissue_hires_scalef": 0.5,
        "tissue_lowres_scalef": 0.25,
        "spot_diameter_fullres": 65 / UM_PER_PX,
        "fiducial_diameter_fullres": 100 / UM_PER_PX,
    }
    (spatial / "scalefactors_json.json").write_text(json.dumps(factors))
    picture = Image.fromarray(image)
    for name, scale in (("tissue_hires_image.png", 0.5), ("tissue_lowres_image.png", 0.25)):
        picture.resize((round(picture.width * scale), round(picture.height * scale))).save(spatial / name)


def hex_grid(rows: int = ROWS, columns: int = COLUMNS) -> tuple[np.ndarray, np.ndarray]:
    """[N, 2] (array_col, array_row), columns in half pitches; [N, 2] (x, y) in full-resolution pixels."""
    grid = np.array([(2 * column + row % 2, row) for row in range(rows) for column in range(columns)])
    xy = np.stack([grid[:, 0] / 2, grid[:, 1] * np.sqrt(3) / 2], axis=1) * PITCH_PX + 60
    return grid, xy


def domain_of(xy: np.ndarray) -> np.ndarray:
    """[N] 0, 1 or 2: three rings around the middle of the slide."""
    distance = np.linalg.norm(xy - xy.mean(axis=0), axis=1)
    return np.digitize(distance, [PITCH_PX * 1.6, PITCH_PX * 3.1])


def paint(xy: np.ndarray, domain: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """uint8 [H, W, 3]: each pixel in the stain of the nearest spot's domain, with grain; light glass around."""
    width, height = (int(value) + 60 for value in xy.max(axis=0))
    y, x = np.mgrid[:height, :width]
    pixels = np.stack([x.ravel(), y.ravel()], axis=1)
    nearest = np.empty(len(pixels), np.int64)
    distance = np.empty(len(pixels))
    for start in range(0, len(pixels), 20_000):
        apart = np.linalg.norm(pixels[start : start + 20_000, None] - xy[None], axis=2)
        nearest[start : start + 20_000], distance[start : start + 20_000] = apart.argmin(axis=1), apart.min(axis=1)
    stain = np.array([[190, 90, 160], [225, 150, 190], [120, 80, 170]])[domain[nearest]]
    stain[distance > PITCH_PX * 0.8] = [242, 240, 243]
    return np.clip(stain + rng.normal(0, 9, (len(pixels), 1)), 0, 255).astype(np.uint8).reshape(height, width, 3)


def write_cohort(folder: Path, slides: dict[str, str] = SLIDES) -> Path:
    """Write the slides and slides.csv; returns the folder. Same bytes each time."""
    grid, xy = hex_grid()
    domain = domain_of(xy)
    ids = [f"ENSG{number:011d}" for number in range(1, GENES + 1)]
    symbols = [f"GENE{number}" for number in range(1, GENES + 1)]
    marks = np.random.default_rng(7).gamma(2.0, 1.5, (len(DOMAINS), GENES))
    sheet = ["slide,patient,study,species,tissue,licence,labels"]
    for number, (name, patient) in enumerate(slides.items()):
        rng = np.random.default_rng([11, number])
        slide = folder / name
        slide.mkdir(parents=True)
        barcodes = [f"{name[-1]}{spot:03d}ACGT-1" for spot in range(len(grid))]
        counts = rng.poisson(marks[domain] * rng.gamma(5.0, 0.2, (len(grid), 1))).astype(np.int32)
        image = paint(xy, domain, rng)
        Image.fromarray(image).save(slide / "full_image.png")
        write_matrix(slide / "filtered_feature_bc_matrix.h5", barcodes, ids, symbols, counts)
        write_spatial(slide, barcodes, grid, xy, image)
        labels = [f"{barcode},{DOMAINS[kind]}" for barcode, kind in zip(barcodes, domain, strict=True)]
        (slide / "labels.csv").write_text("\n".join(["barcode,domain", *labels]) + "\n")
        sheet.append(f"{name},{patient},tiny,human,test,CC0,{name}/labels.csv")
    (folder / "slides.csv").write_text("\n".join(sheet) + "\n")
    return folder
