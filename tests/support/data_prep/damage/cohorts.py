"""Two undamaged slides in the layout of each source: small arrays, on an image with tissue in one corner alone.

The tissue lies so that the positions fit it as they are and in no other reading (swapped, mirrored, turned).
"""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import tifffile
from PIL import Image
from scipy import sparse
from scipy.io import mmwrite
from scipy.spatial import cKDTree

from tests.support.tiny_cohort import write_matrix

BAD, GOOD = "GSE1_GSM1", "GSE2_GSM2"
ROWS, COLUMNS, PITCH_PX = 6, 9, 20.0
WIDTH, HEIGHT = 420, 300
GENES = tuple(f"GENE{number}" for number in range(1, 13))
IDS = tuple(f"ENSG{number:011d}" for number in range(1, 13))
POSITIONS = "barcode,in_tissue,array_row,array_col,pxl_row_in_fullres,pxl_col_in_fullres"


@dataclass(frozen=True)
class Section:
    """One slide: counts and picture differ between the two, array and barcodes do not. `lattice`: hex or square."""

    name: str
    lattice: str = "hex"

    @property
    def seed(self) -> int:
        return [BAD, GOOD].index(self.name)

    @cached_property
    def grid(self) -> np.ndarray:
        """[N, 2] (array_col, array_row), hex columns in half pitches."""
        step = 2 if self.lattice == "hex" else 1
        return np.array([(step * c + (r % 2) * (step - 1), r) for r in range(ROWS) for c in range(COLUMNS)])

    @cached_property
    def xy(self) -> np.ndarray:
        scale = [0.5, np.sqrt(3) / 2] if self.lattice == "hex" else [1, 1]
        return np.round(self.grid * scale * PITCH_PX + 40, 2)

    @cached_property
    def barcodes(self) -> list[str]:
        return ["".join("ACGT"[spot // 4**place % 4] for place in range(16)) + "-1" for spot in range(len(self.grid))]

    @cached_property
    def counts(self) -> np.ndarray:
        return np.random.default_rng([1, self.seed]).poisson(2.0, (len(self.grid), len(GENES))).astype(np.int32)

    @cached_property
    def image(self) -> np.ndarray:
        y, x = np.mgrid[:HEIGHT, :WIDTH]
        apart = cKDTree(self.xy).query(np.stack([x.ravel(), y.ravel()], 1))[0].reshape(HEIGHT, WIDTH)
        picture = np.where((apart < 0.75 * PITCH_PX)[:, :, None], [170, 80, 150], [242, 240, 243])
        grain = np.random.default_rng([2, self.seed]).normal(0, 6, (HEIGHT, WIDTH, 1))
        return np.clip(picture + grain, 0, 255).astype(np.uint8)

    def picture(self, scale: float = 1.0) -> Image.Image:
        return Image.fromarray(self.image).resize((round(WIDTH * scale), round(HEIGHT * scale)))

    def position_rows(self) -> list[str]:
        return [
            f"{barcode},1,{row},{column},{y},{x}"
            for barcode, (column, row), (x, y) in zip(self.barcodes, self.grid, self.xy, strict=True)
        ]

    def factors(self) -> str:
        return json.dumps(
            {"tissue_hires_scalef": 0.5, "tissue_lowres_scalef": 0.25, "spot_diameter_fullres": 0.65 * PITCH_PX}
        )


def space_ranger(root: Path, section: Section) -> None:
    """Version 2: HDF5, positions with a header, a full-resolution image."""
    folder = root / section.name
    (folder / "spatial").mkdir(parents=True)
    write_matrix(folder / "filtered_feature_bc_matrix.h5", section.barcodes, list(IDS), list(GENES), section.counts)
    (folder / "spatial/tissue_positions.csv").write_text("\n".join([POSITIONS, *section.position_rows()]) + "\n")
    (folder / "spatial/scalefactors_json.json").write_text(section.factors())
    section.picture().save(folder / "full_image.png")


def mtx_files(section: Section) -> dict[str, bytes]:
    """The three files of a matrix folder."""
    from io import BytesIO

    stream = BytesIO()
    mmwrite(stream, sparse.csc_matrix(section.counts.T))
    features = "".join(f"{gene}\t{symbol}\tGene Expression\n" for gene, symbol in zip(IDS, GENES, strict=True))
    return {
        "matrix.mtx.gz": gzip.compress(stream.getvalue()),
        "barcodes.tsv.gz": gzip.compress("".join(f"{name}\n" for name in section.barcodes).encode()),
        "features.tsv.gz": gzip.compress(features.encode()),
    }


def space_ranger_1(root: Path, section: Section) -> None:
    """Version 1: a matrix folder, positions without header, the hires image alone."""
    folder = root / section.name
    matrix = folder / "filtered_feature_bc_matrix"
    matrix.mkdir(parents=True)
    (folder / "spatial").mkdir()
    for name, content in mtx_files(section).items():
        (matrix / name).write_bytes(content)
    (folder / "spatial/tissue_positions_list.csv").write_text("\n".join(section.position_rows()) + "\n")
    (folder / "spatial/scalefactors_json.json").write_text(section.factors())
    section.picture(0.5).save(folder / "spatial/tissue_hires_image.png")


def geo(root: Path, section: Section) -> None:
    """Prefixed and gzipped in one flat folder, as GEO's supplementary files."""
    root.mkdir(exist_ok=True)
    for name, content in mtx_files(section).items():
        (root / f"{section.name}_{name}").write_bytes(content)
    parts = {
        "tissue_positions_list.csv.gz": ("\n".join(section.position_rows()) + "\n").encode(),
        "scalefactors_json.json.gz": section.factors().encode(),
    }
    section.picture(0.5).save(root / "t.png")
    parts["tissue_hires_image.png.gz"] = (root / "t.png").read_bytes()
    (root / "t.png").unlink()
    for name, content in parts.items():
        (root / f"{section.name}_{name}").write_bytes(gzip.compress(content))


def visium_hd(root: Path, section: Section) -> None:
    """Bins of 16 um: positions as parquet, the scale in the factors."""
    bins = root / section.name / "binned_outputs/square_016um"
    (bins / "spatial").mkdir(parents=True)
    names = [f"s_016um_{row:05d}_{column:05d}-1" for column, row in section.grid]
    write_matrix(bins / "filtered_feature_bc_matrix.h5", names, list(IDS), list(GENES), section.counts)
    columns = dict(zip(POSITIONS.split(","), (names, 1, section.grid[:, 1], section.grid[:, 0]), strict=False))
    columns |= {"pxl_row_in_fullres": section.xy[:, 1], "pxl_col_in_fullres": section.xy[:, 0]}
    pd.DataFrame(columns).to_parquet(bins / "spatial/tissue_positions.parquet")
    factors = json.loads(section.factors()) | {"spot_diameter_fullres": PITCH_PX, "microns_per_pixel": 16 / PITCH_PX}
    (bins / "spatial/scalefactors_json.json").write_text(json.dumps(factors))
    section.picture().save(root / section.name / "full_image.jpg", quality=95)


def stimage(root: Path, section: Section) -> None:
    """STimage-1K4M's Visium folders and catalogue."""
    for part in ("coord", "gene_exp", "image"):
        (root / "Visium" / part).mkdir(parents=True, exist_ok=True)
    names = [f"{section.name}_{barcode}" for barcode in section.barcodes]
    radius = 0.325 * PITCH_PX
    coordinates = pd.DataFrame({"yaxis": section.xy[:, 1], "xaxis": section.xy[:, 0], "r": radius}, index=names)
    coordinates.to_csv(root / f"Visium/coord/{section.name}_coord.csv")
    pd.DataFrame(section.counts, names, list(GENES)).to_csv(root / f"Visium/gene_exp/{section.name}_count.csv")
    section.picture().save(root / f"Visium/image/{section.name}.png")
    (root / "meta").mkdir(exist_ok=True)
    columns = ("slide", "species", "tissue", "pmid", "tech", "spot_num", "gene_num")
    rows = [(name, "human", "brain", "", "Visium", len(names), len(GENES)) for name in (BAD, GOOD)]
    with open(root / "meta/meta_all_gene02122025.csv", "w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])


def hest(root: Path, section: Section) -> None:
    """HEST-1k's flat folders and catalogue; a tiled TIFF."""
    for part in ("st", "wsis", "metadata"):
        (root / part).mkdir(parents=True, exist_ok=True)
    table = table_of(section)
    table.write_h5ad(root / f"st/{section.name}.h5ad")
    with tifffile.TiffWriter(root / f"wsis/{section.name}.tif", bigtiff=True) as file:
        file.write(section.image, tile=(64, 64), photometric="rgb", compression="zlib")
    um_per_px = 100 / PITCH_PX
    (root / f"metadata/{section.name}.json").write_text(json.dumps({"pixel_size_um_estimated": um_per_px}))
    facts = {
        "dataset_title": "a study", "study_link": "", "organ": "brain", "tissue": "", "species": "Homo sapiens",
        "patient": "", "st_technology": "Visium", "license": "CC0", "inter_spot_dist": 100, "spot_diameter": 55,
        "spots_under_tissue": len(table), "nb_genes": len(GENES), "pixel_size_um_estimated": um_per_px,
    }  # fmt: skip
    with open(root / "HEST_v1_1_0.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, ["id", *facts])
        writer.writeheader()
        writer.writerows({"id": name, **facts} for name in (BAD, GOOD))


def table_of(section: Section) -> anndata.AnnData:
    """Counts, array_row and array_col, obsm['spatial']."""
    places = {"array_row": section.grid[:, 1], "array_col": section.grid[:, 0]}
    table = anndata.AnnData(
        sparse.csr_matrix(section.counts.astype(np.float32)),
        obs=pd.DataFrame(places, index=section.barcodes),
        var=pd.DataFrame({"gene_ids": IDS}, index=list(GENES)),
    )
    table.obsm["spatial"] = section.xy.copy()
    return table


def h5ad(root: Path, section: Section) -> None:
    """As scanpy writes a Visium slide: the hires image in uns['spatial']."""
    root.mkdir(exist_ok=True)
    table = table_of(section)
    picture = np.asarray(section.picture(0.5)).astype(np.float32) / 255
    factors = {"tissue_hires_scalef": 0.5, "spot_diameter_fullres": 0.65 * PITCH_PX}
    table.uns["spatial"] = {"lib": {"images": {"hires": picture}, "scalefactors": factors}}
    table.write_h5ad(root / f"{section.name}.h5ad")


def spatialdata_store(root: Path, section: Section) -> None:
    """As spatialdata_io.visium: circles in full-resolution pixels on the full-resolution image."""
    import spatialdata
    from spatialdata.models import Image2DModel, ShapesModel, TableModel
    from spatialdata.transformations import Identity

    root.mkdir(exist_ok=True)
    whole = {"global": Identity()}
    circles = ShapesModel.parse(section.xy, geometry=0, radius=0.325 * PITCH_PX, transformations=whole)
    image = Image2DModel.parse(section.image.transpose(2, 0, 1), dims=("c", "y", "x"), transformations=whole)
    table = table_of(section)
    table.obs["region"], table.obs["spot_id"] = pd.Categorical(["run"] * len(table)), range(len(table))
    del table.obsm["spatial"]
    table = TableModel.parse(table, region="run", region_key="region", instance_key="spot_id")
    store = spatialdata.SpatialData({"run_full_image": image}, shapes={"run": circles}, tables={"table": table})
    store.write(root / f"{section.name}.zarr")


def legacy(root: Path, section: Section) -> None:
    """The ST pipeline's tables; spots 10x13."""
    root.mkdir(exist_ok=True)
    names = [f"{x}x{y}" for x, y in section.grid]
    table = pd.DataFrame(section.counts, names, list(GENES)).to_csv(sep="\t")
    (root / f"{section.name}.tsv.gz").write_bytes(gzip.compress(table.encode()))
    rows = [f"{x}\t{y}\t{px}\t{py}" for (x, y), (px, py) in zip(section.grid, section.xy, strict=True)]
    (root / f"{section.name}_coordinates.tsv").write_text("\n".join(["x\ty\tpixel_x\tpixel_y", *rows]) + "\n")
    section.picture().save(root / f"{section.name}.jpg", quality=95)


@dataclass(frozen=True)
class Layout:
    """A way in which slides lie on disk. `source`: the reader; `lattice`: of its array."""

    source: str
    write: Callable[[Path, Section], None]
    lattice: str = "hex"

    def write_both(self, root: Path) -> Path:
        root.mkdir(parents=True, exist_ok=True)
        for name in (BAD, GOOD):
            self.write(root, Section(name, self.lattice))
        return root


LAYOUTS = {
    "space_ranger": Layout("space_ranger", space_ranger),
    "space_ranger_1": Layout("space_ranger", space_ranger_1),
    "geo": Layout("space_ranger", geo),
    "hd": Layout("space_ranger", visium_hd, "square"),
    "stimage": Layout("stimage", stimage),
    "hest": Layout("hest", hest),
    "anndata": Layout("anndata", h5ad),
    "spatialdata": Layout("spatialdata", spatialdata_store),
    "legacy_st": Layout("legacy_st", legacy, "square"),
}
