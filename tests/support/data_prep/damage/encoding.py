"""Text in another encoding, binary where text is wanted, files that are not what their names say."""

from __future__ import annotations

from pathlib import Path

from tests.support.data_prep.damage.case import Case
from tests.support.data_prep.damage.cohorts import BAD
from tests.support.data_prep.damage.edits import Spoil, both, put

H5, POSITIONS = f"{BAD}/filtered_feature_bc_matrix.h5", f"{BAD}/spatial/tissue_positions.csv"
FACTORS = f"{BAD}/spatial/scalefactors_json.json"
MTX = f"{BAD}/filtered_feature_bc_matrix"
COORD, COUNTS = f"Visium/coord/{BAD}_coord.csv", f"Visium/gene_exp/{BAD}_count.csv"
BINARY = bytes(range(256)) * 4
NO_GZIP = b"\x1f\x8b\x08\x00" + b"this is no gzip stream" * 9
SOURCE = "sources: [{source: legacy_st, input: .}]\n"


def coded(name: str, encoding: str, old: str = "", new: str = "") -> Spoil:
    def spoil(root: Path) -> None:
        content = (root / name).read_text().replace(old, new, 1) if old else (root / name).read_text()
        (root / name).write_bytes(content.encode(encoding))

    return spoil


def nul_in_the_middle(name: str) -> Spoil:
    def spoil(root: Path) -> None:
        content = (root / name).read_bytes()
        (root / name).write_bytes(content[:700] + b"\0\0\0" + content[703:])

    return spoil


CASES = [
    Case("space_ranger", "utf16_positions", coded(POSITIONS, "utf-16"), r"tissue_positions\.csv cannot be read"),
    Case("space_ranger", "binary_positions", put(POSITIONS, BINARY), r"tissue_positions\.csv cannot be read"),
    Case("space_ranger", "latin1_positions", coded(POSITIONS, "latin-1", "AAAA", "é"), r"tissue_positions\.csv cannot"),
    Case("space_ranger", "nul_positions", nul_in_the_middle(POSITIONS), r"tissue_positions\.csv"),
    Case("space_ranger", "h5_is_text", put(H5, b"barcode,gene\n" * 50), r"_matrix\.h5 cannot be read: .*signature"),
    Case("space_ranger", "h5_is_gzip_that_is_none", put(H5, NO_GZIP), r"_matrix\.h5 cannot be read: "),
    Case(
        "space_ranger", "image_is_text", put(f"{BAD}/full_image.png", b"not found\n" * 20), r"full_image\.png cannot be"
    ),
    Case(
        "space_ranger",
        "image_is_h5",
        lambda root: (root / f"{BAD}/full_image.png").write_bytes((root / H5).read_bytes()),
        r"full_image\.png (cannot be read as an image|has 0 x 0 pixels)",
    ),
    Case("space_ranger", "factors_utf16", coded(FACTORS, "utf-16", "0.5", "é"), r"scalefactors_json\.json is not JSON"),
    Case("space_ranger_1", "factors_list", put(FACTORS, b"[0.5, 0.25]"), r"scalefactors_json\.json holds list; keys"),
    Case("space_ranger_1", "factors_binary", put(FACTORS, BINARY), r"scalefactors_json\.json is not JSON"),
    Case("space_ranger_1", "factors_text", put(FACTORS, b'{"tissue_hires_scalef": "half"}'), "scalef is 'half'; a num"),
    Case(
        "space_ranger_1", "barcodes_binary", put(f"{MTX}/barcodes.tsv.gz", BINARY), r"barcodes\.tsv\.gz cannot be read"
    ),
    Case("space_ranger_1", "features_no_gzip", put(f"{MTX}/features.tsv.gz", NO_GZIP), r"features\.tsv\.gz cannot be"),
    Case("space_ranger_1", "mtx_no_gzip", put(f"{MTX}/matrix.mtx.gz", NO_GZIP), r"matrix\.mtx\.gz cannot be read"),
    Case("space_ranger_1", "mtx_wrong_banner", put(f"{MTX}/matrix.mtx.gz", b"%%Matrix\n1 1 1\n"), r"matrix\.mtx\.gz"),
    Case(
        "geo", "positions_no_gzip", put(f"{BAD}_tissue_positions_list.csv.gz", NO_GZIP), r"list\.csv\.gz cannot be read"
    ),
    Case("geo", "image_no_gzip", put(f"{BAD}_tissue_hires_image.png.gz", NO_GZIP), r"hires_image\.png\.gz"),
    Case(
        "hd",
        "parquet_magic",
        put(f"{BAD}/binned_outputs/square_016um/spatial/tissue_positions.parquet", b"PAR1" + BINARY + b"PAR1"),
        r"tissue_positions\.parquet cannot be read",
    ),
    Case("stimage", "utf16_counts", coded(COUNTS, "utf-16"), r"_count\.csv cannot be read"),
    Case("stimage", "utf16_coord", coded(COORD, "utf-16"), r"_coord\.csv cannot be read"),
    Case("stimage", "latin1_coord", coded(COORD, "latin-1", BAD, "Sl\u00e9"), r"_coord\.csv cannot be read"),
    Case("stimage", "nul_counts", nul_in_the_middle(COUNTS), r"_count\.csv"),
    Case(
        "stimage",
        "latin1_catalogue",
        coded("meta/meta_all_gene02122025.csv", "latin-1", "brain", "c\u0153ur".replace("\u0153", "\u00e9")),
        r"catalogue .*meta_all_gene02122025\.csv cannot be read",
        refused=True,
    ),
    Case("hest", "utf16_catalogue", coded("HEST_v1_1_0.csv", "utf-16"), "HEST_v1_1_0.csv cannot be read", refused=True),
    Case("hest", "metadata_list", put(f"metadata/{BAD}.json", b"[1]"), r"metadata/GSE1_GSM1\.json: .* is \[1\]"),
    Case("hest", "metadata_utf16", coded(f"metadata/{BAD}.json", "utf-16"), r"metadata/GSE1_GSM1\.json cannot be read"),
    Case(
        "hest", "h5ad_is_text", put(f"st/{BAD}.h5ad", b"version https://git-lfs\n" * 9), r"h5ad cannot be read as h5ad"
    ),
    Case("hest", "tiff_is_text", put(f"wsis/{BAD}.tif", b"version https://git-lfs\n" * 9), r"\.tif cannot be read as"),
    Case("anndata", "h5ad_is_binary", put(f"{BAD}.h5ad", BINARY), r"h5ad cannot be read as h5ad"),
    Case("spatialdata", "root_is_a_list", put(f"{BAD}.zarr/zarr.json", b"[]"), r"GSE1_GSM1\.zarr"),
    Case("spatialdata", "table_is_no_json", put(f"{BAD}.zarr/tables/table/zarr.json", b"{"), r"GSE1_GSM1\.zarr"),
    Case(
        "spatialdata", "image_is_binary", put(f"{BAD}.zarr/images/run_full_image/zarr.json", BINARY), r"GSE1_GSM1\.zarr"
    ),
    Case("legacy_st", "counts_no_gzip", put(f"{BAD}.tsv.gz", NO_GZIP), r"tsv\.gz cannot be read"),
    Case("legacy_st", "counts_binary", put(f"{BAD}.tsv.gz", BINARY), r"tsv\.gz"),
    Case("legacy_st", "spots_utf16", coded(f"{BAD}_coordinates.tsv", "utf-16"), r"_coordinates\.tsv"),
    Case(
        "legacy_st",
        "sheet_latin1",
        put("slides.csv", f"slide,tissue\n{BAD},c\u00e9r\n".encode("latin-1")),
        r"slides\.csv cannot be read",
        refused=True,
    ),
    Case(
        "legacy_st",
        "sheet_utf16",
        put("slides.csv", f"slide,tissue\n{BAD},brain\n".encode("utf-16")),
        r"slides\.csv cannot be read",
        refused=True,
    ),
    Case(
        "legacy_st",
        "labels_latin1",
        both(
            put("slides.csv", f"slide,labels\n{BAD},l.csv\n".encode()),
            put("l.csv", "barcode,r\n0x0,\u00e9\n".encode("latin-1")),
        ),
        r"l\.csv cannot be read",
    ),
    *(
        Case("legacy_st", f"config_{kind}", lambda root: None, message, refused=True, yaml=yaml)
        for kind, yaml, message in (
            ("latin1", f"# caf\u00e9\n{SOURCE}".encode("latin-1"), r"build\.yaml cannot be read"),
            ("binary", BINARY, r"build\.yaml"),
            ("list", "- source: legacy_st\n", r"build\.yaml is \[.*keys and values"),
            ("no_yaml", "sources: [{source: legacy_st\n", r"build\.yaml is not YAML"),
            ("empty", "# nothing\n", r"build\.yaml is None; keys and values"),
            ("sheet_number", "sources: [{source: legacy_st, input: ., sheet: 5}]\n", r"build\.yaml.*sheet is 5"),
            ("patient_list", "sources: [{source: legacy_st, input: ., patients: [a]}]\n", r"patients is \['a'\]"),
            ("nan", f"settings: {{spot_scale: .nan}}\n{SOURCE}", "spot_scale is nan"),
            ("infinite", f"settings: {{niche_pitches: .inf}}\n{SOURCE}", "niche_pitches is inf"),
        )
    ),
]
