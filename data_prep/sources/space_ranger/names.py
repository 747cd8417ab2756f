"""What a file of Space Ranger's is, by the end of its name: prefixed or not, gzipped or not.

So `V1_Human_Heart_filtered_feature_bc_matrix.h5` (10x's pages) and `GSM123_S1_tissue_positions_list.csv.gz` (GEO) need
not be renamed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

NAMES: dict[str, tuple[str, ...]] = {
    "h5": ("feature_bc_matrix.h5",),
    "mtx": ("matrix.mtx",),
    "barcodes": ("barcodes.tsv",),
    "features": ("features.tsv", "genes.tsv"),
    "positions": (
        "tissue_positions.csv",
        "tissue_positions_list.csv",
        "tissue_positions.parquet",
        "tissue_positions_list.txt",
    ),
    "scale_factors": ("scalefactors_json.json",),
    "hires": ("tissue_hires_image.png",),
    "lowres": ("tissue_lowres_image.png",),
    "cytassist": ("cytassist_image.tiff",),
    "probe_set": ("probe_set.csv",),
}
"""What a file is -> how its name may end, in order of preference. `.gz` may follow."""

SPOTS = {"h5", "mtx", "barcodes", "features", "positions"}

_END = re.compile(
    r"^(?P<prefix>.*?)(?P<word>(?:filtered|raw)_feature_bc_matrix[_.-]|(?:filtered|raw|spatial)[_.-])?"
    rf"(?P<end>{'|'.join(re.escape(end) for ends in NAMES.values() for end in ends)})(?:\.gz)?$"
)
_KIND = {end: kind for kind, ends in NAMES.items() for end in ends}
_RANK = {end: rank for ends in NAMES.values() for rank, end in enumerate(ends)}

IMAGE_SUFFIXES = (".tif", ".tiff", ".jpg", ".jpeg", ".png", ".btf")
OWN_PICTURES = re.compile(r"tissue_(hires|lowres)_image|detected_tissue|aligned_(tissue|fiducials)|cytassist", re.I)
"""Space Ranger's own pictures, which are not the microscope's; cytassist_image is eosin only."""

SEPARATORS = "_.-"


@dataclass(frozen=True)
class KnownFile:
    """A file of Space Ranger's.

    Attributes:
        path: the file.
        prefix: what GEO or 10x put before its name, without the separator.
        kind: a key of NAMES.
        raw: whether it holds all spots of the array, not only those under tissue.
        rank: 0 for the preferred name of its kind, then 1, 2, ...
    """

    path: Path
    prefix: str
    kind: str
    raw: bool
    rank: int


def recognise_file(path: Path) -> KnownFile | None:
    """Tell what a file is by its name; None if it is none of NAMES."""
    found = _END.match(path.name)
    if found is None or path.name.startswith("."):
        return None
    prefix, word, end = found["prefix"], found["word"] or "", found["end"]
    if prefix and prefix[-1] not in SEPARATORS:
        return None
    if _KIND[end] == "h5" and word not in ("filtered_", "raw_"):
        return None
    return KnownFile(path, prefix.rstrip(SEPARATORS), _KIND[end], word.startswith("raw"), _RANK[end])


def has_prefix(name: str, prefix: str) -> bool:
    """Whether a file's name begins with a prefix and a separator."""
    return name.startswith(prefix) and name[len(prefix) : len(prefix) + 1] in tuple(SEPARATORS)


def find_pictures(folder: Path) -> list[Path]:
    """Find the folder's images, Space Ranger's own and others, by suffix."""
    if not folder.is_dir():
        return []
    suffixes = tuple(suffix + packed for suffix in IMAGE_SUFFIXES for packed in ("", ".gz"))
    return sorted(
        path for path in folder.iterdir() if path.name.lower().endswith(suffixes) and not path.name.startswith(".")
    )
