"""A file that a transfer cut off, or a writer did not finish."""

from __future__ import annotations

from pathlib import Path

import tifffile

from tests.support.data_prep.damage.case import Case
from tests.support.data_prep.damage.cohorts import BAD
from tests.support.data_prep.damage.edits import Spoil, cut, put

MTX = f"{BAD}/filtered_feature_bc_matrix"
BINS = f"{BAD}/binned_outputs/square_016um"


def cut_chunk(part: str) -> Spoil:
    """Halve the largest chunk of an element of the store."""

    def spoil(root: Path) -> None:
        files = (path for path in (root / f"{BAD}.zarr" / part).rglob("*") if path.is_file())
        path = max((path for path in files if path.suffix != ".json"), key=lambda path: path.stat().st_size)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    return spoil


def short_tile(root: Path) -> None:
    """A tile whose listed size is half of what was written."""
    with tifffile.TiffFile(root / f"wsis/{BAD}.tif", mode="r+") as file:
        tag = file.pages[0].tags["TileByteCounts"]
        tag.overwrite([tag.value[0] // 2, *tag.value[1:]])


CASES = [
    Case("space_ranger", "h5", cut(f"{BAD}/filtered_feature_bc_matrix.h5"), r"_matrix\.h5 cannot be read: "),
    Case("space_ranger", "h5_start", cut(f"{BAD}/filtered_feature_bc_matrix.h5", 0.01), r"_matrix\.h5 cannot be read"),
    Case("space_ranger", "h5_empty", put(f"{BAD}/filtered_feature_bc_matrix.h5", b""), r"_matrix\.h5 cannot be read"),
    Case("space_ranger", "positions", cut(f"{BAD}/spatial/tissue_positions.csv"), r"tissue_positions\.csv"),
    Case("space_ranger", "positions_empty", put(f"{BAD}/spatial/tissue_positions.csv", b""), r"tissue_positions\.csv"),
    Case("space_ranger", "png", cut(f"{BAD}/full_image.png", 0.9), r"full_image\.png cannot be read as an image"),
    Case("space_ranger", "png_header", cut(f"{BAD}/full_image.png", 0.0001), r"full_image\.png"),
    Case("space_ranger_1", "mtx", cut(f"{MTX}/matrix.mtx.gz", 0.7), r"matrix\.mtx\.gz cannot be read: "),
    Case("space_ranger_1", "barcodes", cut(f"{MTX}/barcodes.tsv.gz", 0.8), r"barcodes\.tsv\.gz cannot be read"),
    Case("space_ranger_1", "features", cut(f"{MTX}/features.tsv.gz", 0.8), r"features\.tsv\.gz cannot be read"),
    Case(
        "space_ranger_1",
        "json",
        cut(f"{BAD}/spatial/scalefactors_json.json"),
        r"scalefactors_json\.json is not JSON: ",
    ),
    Case("geo", "positions_gz", cut(f"{BAD}_tissue_positions_list.csv.gz"), r"positions_list\.csv\.gz cannot be read"),
    Case("geo", "image_gz", cut(f"{BAD}_tissue_hires_image.png.gz"), r"hires_image\.png\.gz .*cannot be read"),
    Case("hd", "parquet", cut(f"{BINS}/spatial/tissue_positions.parquet"), r"tissue_positions\.parquet cannot be read"),
    Case("hd", "jpeg", cut(f"{BAD}/full_image.jpg"), r"full_image\.jpg cannot be read as an image"),
    Case("stimage", "counts", cut(f"Visium/gene_exp/{BAD}_count.csv", 0.601), r"_count\.csv"),
    Case("stimage", "coord", cut(f"Visium/coord/{BAD}_coord.csv", 0.6), r"_coord\.csv"),
    Case(
        "stimage", "catalogue", cut("meta/meta_all_gene02122025.csv", 0.8), r"meta_all_gene02122025\.csv", refused=True
    ),
    Case("hest", "h5ad", cut(f"st/{BAD}.h5ad"), r"GSE1_GSM1\.h5ad cannot be read as h5ad"),
    Case("hest", "tiff", cut(f"wsis/{BAD}.tif"), r"GSE1_GSM1\.tif"),
    Case("hest", "tile", short_tile, r"GSE1_GSM1\.tif level 0 .*tile \(column 0, row 0\) is damaged"),
    Case("hest", "json", cut(f"metadata/{BAD}.json"), r"metadata/GSE1_GSM1\.json cannot be read as JSON"),
    Case("anndata", "h5ad", cut(f"{BAD}.h5ad", 0.8), r"GSE1_GSM1\.h5ad cannot be read as h5ad"),
    Case("spatialdata", "image_chunk", cut_chunk("images"), r"GSE1_GSM1\.zarr images/run_full_image: .*cannot be read"),
    Case("spatialdata", "count_chunk", cut_chunk("tables/table/X/data"), r"GSE1_GSM1\.zarr.*cannot be read"),
    Case(
        "spatialdata", "shapes", cut(f"{BAD}.zarr/shapes/run/shapes.parquet"), r"GSE1_GSM1\.zarr cannot be read as Sp"
    ),
    Case("legacy_st", "counts", cut(f"{BAD}.tsv.gz", 0.7), r"GSE1_GSM1\.tsv\.gz cannot be read"),
    Case("legacy_st", "spots", cut(f"{BAD}_coordinates.tsv", 0.5), r"GSE1_GSM1_coordinates\.tsv"),
    Case("legacy_st", "jpeg", cut(f"{BAD}.jpg", 0.9), r"GSE1_GSM1\.jpg cannot be read as an image"),
]
