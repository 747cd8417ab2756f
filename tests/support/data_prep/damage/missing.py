"""A file, a folder, an array, a column or a key that is not there."""

from __future__ import annotations

import json

from tests.support.data_prep.damage.case import Case
from tests.support.data_prep.damage.cohorts import BAD
from tests.support.data_prep.damage.edits import Spoil, both, put, remove, table, text, without

H5 = f"{BAD}/filtered_feature_bc_matrix.h5"


def without_key(name: str, key: str) -> Spoil:
    def change(content: str) -> str:
        held = json.loads(content)
        del held[key]
        return json.dumps(held)

    return text(name, change)


CASES = [
    Case("space_ranger", "matrix", remove(H5), r"a count matrix is missing: .*filtered_feature_bc_matrix\.h5"),
    Case("space_ranger", "positions", remove(f"{BAD}/spatial/tissue_positions.csv"), "a positions file is missing"),
    Case(
        "space_ranger",
        "images",
        both(remove(f"{BAD}/full_image.png")),
        r"has no image: neither \*image\*.*tissue_hires_image\.png",
    ),
    *(
        Case(
            "space_ranger",
            f"h5_{key.split('/')[-1]}",
            without(H5, f"matrix/{key}"),
            rf"filtered_.*\.h5 .*{key.split('/')[-1]}",
        )
        for key in ("barcodes", "data", "indptr", "shape", "features", "features/id", "features/feature_type")
    ),
    Case(
        "space_ranger_1",
        "barcodes",
        remove(f"{BAD}/filtered_feature_bc_matrix/barcodes.tsv.gz"),
        r"matrix\.mtx\.gz has no barcodes\.tsv beside it",
    ),
    Case(
        "space_ranger_1",
        "scale_factors",
        remove(f"{BAD}/spatial/scalefactors_json.json"),
        r"scalefactors_json\.json is missing, so the scale of .*tissue_hires_image\.png is unknown",
    ),
    Case(
        "space_ranger_1",
        "hires_scale",
        without_key(f"{BAD}/spatial/scalefactors_json.json", "tissue_hires_scalef"),
        r"scalefactors_json\.json: tissue_hires_scalef is None; a number above 0",
    ),
    Case(
        "geo",
        "positions",
        remove(f"{BAD}_tissue_positions_list.csv.gz"),
        "has no tissue_positions file of its prefix",
        rule="files",
    ),
    Case("geo", "features", remove(f"{BAD}_features.tsv.gz"), r"matrix\.mtx\.gz has no features\.tsv"),
    Case(
        "hd",
        "bins",
        remove(f"{BAD}/binned_outputs/square_016um"),
        r"has no square_016um \(bin_um: 16\); it has \[\]",
    ),
    Case("stimage", "coord", remove(f"Visium/coord/{BAD}_coord.csv"), "has no Visium/coord/GSE1", rule="files"),
    Case("stimage", "image", remove(f"Visium/image/{BAD}.png"), r"has no Visium/image/GSE1_GSM1\.png", rule="files"),
    Case("stimage", "catalogue", remove("meta"), "has no STimage-1K4M catalogue: wanted meta/", refused=True),
    Case("hest", "h5ad", remove(f"st/{BAD}.h5ad"), r"has no st/GSE1_GSM1\.h5ad", rule="files"),
    Case("hest", "catalogue", remove("HEST_v1_1_0.csv"), "has no HEST-1k catalogue: wanted HEST_v1", refused=True),
    Case("hest", "both_images", remove(f"wsis/{BAD}.tif"), r"has no image: neither wsis/GSE1_GSM1\.tif nor uns"),
    Case("hest", "positions", without(f"st/{BAD}.h5ad", "obsm/spatial"), r"GSE1_GSM1\.h5ad .* has no obsm/spatial"),
    Case("anndata", "counts", without(f"{BAD}.h5ad", "X"), r"GSE1_GSM1\.h5ad.*no raw counts.*X is absent"),
    Case("anndata", "obs", without(f"{BAD}.h5ad", "obs"), r"GSE1_GSM1\.h5ad cannot be read as h5ad: .*obs"),
    Case("anndata", "var", without(f"{BAD}.h5ad", "var"), r"GSE1_GSM1\.h5ad cannot be read as h5ad: .*var"),
    Case(
        "anndata",
        "positions",
        table(f"{BAD}.h5ad", lambda held: held.obsm.clear()),
        r"GSE1_GSM1\.h5ad has no obsm\['spatial'\]",
    ),
    Case(
        "anndata",
        "scale",
        without(f"{BAD}.h5ad", "uns/spatial/lib/scalefactors/tissue_hires_scalef"),
        r"uns/spatial/lib/scalefactors: tissue_hires_scalef is None",
    ),
    Case("spatialdata", "tables", remove(f"{BAD}.zarr/tables"), r"wanted the table a single one.*it has \[\]"),
    Case("spatialdata", "shapes", remove(f"{BAD}.zarr/shapes"), r"GSE1_GSM1\.zarr/shapes/run does not exist"),
    Case("spatialdata", "image", remove(f"{BAD}.zarr/images"), r"zarr/images/run_full_image does not seem to exist"),
    Case(
        "spatialdata",
        "instances",
        remove(f"{BAD}.zarr/tables/table/obs/spot_id"),
        r"zarr/tables/table cannot be read as AnnData table: .*spot_id",
    ),
    Case("legacy_st", "image", remove(f"{BAD}.jpg"), r"has no GSE1_GSM1\.jpg", rule="files"),
    Case("legacy_st", "counts", remove(f"{BAD}.tsv.gz"), r"has no GSE1_GSM1\.tsv\.gz", rule="files"),
    Case(
        "space_ranger",
        "label_file",
        put("slides.csv", f"slide,labels\n{BAD},none.csv\n".encode()),
        r"its label file .*none\.csv is missing",
    ),
    Case(
        "legacy_st",
        "sheet",
        lambda root: None,
        r"there is no sheet .*cohort\.csv",
        refused=True,
        yaml="sources: [{source: legacy_st, input: ., sheet: cohort.csv}]\n",
    ),
    Case(
        "legacy_st",
        "input",
        lambda root: None,
        "input .*elsewhere of source legacy_st does not exist",
        refused=True,
        yaml="sources: [{source: legacy_st, input: elsewhere}]\n",
    ),
]
