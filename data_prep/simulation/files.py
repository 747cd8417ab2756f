"""One simulated slide -> a folder in Space Ranger's layout, plus labels and the oracle beside it."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from PIL import Image
from scipy import sparse

from data_prep.simulation.expression import Expression
from data_prep.simulation.tissue import PITCH_UM, Tissue
from stalign_pl.files import replace_file

SPOT_UM = 55.0
HIRES_PX, LOWRES_PX = 1000, 600


def make_barcodes(grid: np.ndarray) -> np.ndarray:
    """Make [N] 16-letter barcodes, one a place of the array, the same in every slide (as on real Visium slides)."""
    letters = np.array(list("ACGT"))
    number = (grid[:, 1].astype(np.int64) * 1024 + grid[:, 0]) * 2654435761 % 4**16
    digits = (number[:, None] >> (2 * np.arange(16))) & 3
    return np.array(["".join(row) + "-1" for row in letters[digits]])


def write_matrix(path: Path, counts: np.ndarray, barcodes: np.ndarray, genes: tuple[str, ...]) -> None:
    """Write `filtered_feature_bc_matrix.h5`: genes x barcodes, CSC, as 10x documents it."""
    matrix = sparse.csr_matrix(counts)
    with replace_file(path) as temporary, h5py.File(temporary, "w") as file:
        group = file.create_group("matrix")
        group["barcodes"] = np.char.encode(barcodes)
        group["data"], group["indices"], group["indptr"] = (
            matrix.data,
            matrix.indices.astype(np.int64),
            matrix.indptr.astype(np.int64),
        )
        group["shape"] = np.array([len(genes), len(barcodes)], dtype=np.int32)
        features = group.create_group("features")
        features["id"] = features["name"] = np.char.encode(np.array(genes))
        features["feature_type"] = np.array([b"Gene Expression"] * len(genes))
        features["genome"] = np.array([b"simulated"] * len(genes))
        features["_all_tag_keys"] = np.array([b"genome"])


def write_folder(
    folder: Path,
    tissue: Tissue,
    image: np.ndarray,
    expression: Expression,
    genes: tuple[str, ...],
    domains: tuple[str, ...],
    um_per_px: float,
) -> None:
    """Write one slide: matrix, positions, scale factors, images, labels.csv, and oracle.npz (float16, no pickle)."""
    spatial = folder / "spatial"
    spatial.mkdir(parents=True, exist_ok=True)
    barcodes = make_barcodes(tissue.grid)
    xy = tissue.xy_um / um_per_px
    write_matrix(folder / "filtered_feature_bc_matrix.h5", expression.counts, barcodes, genes)

    positions = pd.DataFrame(
        {"barcode": barcodes, "in_tissue": 1, "array_row": tissue.grid[:, 1], "array_col": tissue.grid[:, 0]}
    )
    positions["pxl_row_in_fullres"], positions["pxl_col_in_fullres"] = xy[:, 1], xy[:, 0]
    with replace_file(spatial / "tissue_positions.csv") as temporary:
        positions.to_csv(temporary, index=False, float_format="%.3f")
    with replace_file(folder / "labels.csv") as temporary:
        pd.DataFrame({"barcode": barcodes, "domain": np.array(domains)[tissue.domain]}).to_csv(temporary, index=False)

    picture, longest = Image.fromarray(image), max(image.shape[:2])
    scales = {"tissue_hires_scalef": HIRES_PX / longest, "tissue_lowres_scalef": LOWRES_PX / longest}
    with replace_file(folder / "full_image.png") as temporary:
        picture.save(temporary, format="PNG", compress_level=1)
    for name, scale in (("hires", scales["tissue_hires_scalef"]), ("lowres", scales["tissue_lowres_scalef"])):
        size = tuple(round(side * scale) for side in picture.size)
        with replace_file(spatial / f"tissue_{name}_image.png") as temporary:
            picture.resize(size, Image.Resampling.BOX).save(temporary, format="PNG", compress_level=1)
    factors = {
        **scales,
        "spot_diameter_fullres": SPOT_UM / um_per_px,
        "fiducial_diameter_fullres": PITCH_UM / um_per_px,
    }
    with replace_file(spatial / "scalefactors_json.json") as temporary:
        temporary.write_text(json.dumps(factors))

    with replace_file(folder / "oracle.npz") as temporary, open(temporary, "wb") as file:
        np.savez_compressed(
            file,
            barcodes=np.char.encode(barcodes),
            genes=np.char.encode(np.array(genes)),
            expected=expression.expected.astype(np.float16),
            noise_free=expression.noise_free.astype(np.float16),
        )
