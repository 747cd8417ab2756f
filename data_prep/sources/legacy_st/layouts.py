"""Where the files of legacy ST sections lie: her2st's folders, ST-Net's, one folder a section, or all in one folder."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ENDING = r"\.(?:tsv|csv|txt)(?:\.gz)?"
SPOT_FILES = tuple(
    re.compile(f"^{pattern}{ENDING}$")
    for pattern in (
        r"alignment_table_(?P<name>.+)",  # STUtility
        r"spot_data-(?:selection|all)-(?P<name>.+)",  # the spot detector
        r"spots_(?P<name>.+)",  # He et al. 2020 as published
        r"(?P<name>.+)\.spots",  # ST-Net
        r"(?P<name>.+)(?<!_labeled)_(?:selection|coordinates|spots|spot_coordinates)",
        r"(?P<name>)(?:coordinates|spots|selection|spot_coordinates)",  # a folder of its own
    )
)
"""How a spot file is named. Without a name in it, the section is its folder's."""

COUNT_NAMES = ("{name}", "{name}_stdata", "{name}.stdata", "{name}_counts", "{name}_count_matrix")
OWN_COUNT_NAMES = ("stdata", "counts", "count_matrix")
IMAGE_NAMES = ("{name}", "{name}_HE", "HE_{name}", "{name}_image")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff")
TABLE_SUFFIXES = tuple(f".{kind}{packed}" for kind in ("tsv", "csv", "txt") for packed in ("", ".gz"))

WANTED = (
    "data/ST-cnts (the her2st folders), or, in it or up to two folders below it, spot files such as "
    "alignment_table_<section>.tsv, <section>.spots.txt, <section>_coordinates.tsv or spots_<section>.csv with "
    "<section>.tsv[.gz] or <section>_stdata.tsv[.gz] and <section>.jpg beside; or <section>/ with coordinates.tsv, "
    "stdata.tsv and an image"
)


@dataclass(frozen=True)
class SectionFiles:
    """A section's files.

    Attributes:
        name: unique in a folder.
        patient: as the layout tells it, else ''.
        counts: the count table.
        spots: the spot file, with positions.
        image: the H&E image.
        labels: the pathologist's regions, None where there are none.
        missing: why it is no slide, else ''.
    """

    name: str
    patient: str
    counts: Path
    spots: Path
    image: Path
    labels: Path | None = None
    missing: str = ""


def find_sections(folder: Path) -> list[SectionFiles]:
    """Find all sections of a folder, complete or not, by name."""
    root = next((path for path in (folder, folder / "data") if (path / "ST-cnts").is_dir()), None)
    found = _find_her2st(root) if root is not None else _find_beside(folder)
    return sorted(found, key=lambda section: section.name)


def _find_her2st(root: Path) -> Iterator[SectionFiles]:
    """Yields sections of data/ST-cnts/A1.tsv.gz, ST-imgs/A/A1/*.jpg, ST-spotfiles/, ST-pat/lbl/.

    The patient is the section's letter.
    """
    for counts in sorted(path for ending in ("*.tsv.gz", "*.tsv") for path in (root / "ST-cnts").glob(ending)):
        name = counts.name.removesuffix(".gz").removesuffix(".tsv")
        images = sorted((root / "ST-imgs" / name[0] / name).glob("*.jpg"))
        spots = root / "ST-spotfiles" / f"{name}_selection.tsv"
        labels = root / "ST-pat" / "lbl" / f"{name}_labeled_coordinates.tsv"
        missing = ""
        if len(images) != 1:
            missing = f"has {'no image' if not images else f'{len(images)} images'} in ST-imgs/{name[0]}/{name}"
        elif not spots.is_file():
            missing = f"has no spot file ST-spotfiles/{spots.name}"
        image = images[0] if images else root / "ST-imgs"
        yield SectionFiles(name, name[0], counts, spots, image, labels if labels.is_file() else None, missing)


def _find_beside(folder: Path) -> Iterator[SectionFiles]:
    """Yields sections with spot file, counts and image side by side, in the folder or in <a>/ or <a>/<b>/ below."""
    below = [path for depth in ("*", "*/*") for path in sorted(folder.glob(depth)) if path.is_dir()]
    for place in (folder, *below):
        for spots in sorted(path for path in place.iterdir() if path.is_file()):
            match = next((match for pattern in SPOT_FILES if (match := pattern.match(spots.name))), None)
            if match is not None:
                yield _make_section(place, spots, match["name"])


def _make_section(place: Path, spots: Path, name: str) -> SectionFiles:
    own = not name
    name = name or place.resolve().name
    count_names = [pattern.format(name=name) for pattern in COUNT_NAMES] + [*(OWN_COUNT_NAMES if own else ())]
    counts = _find_first(place, count_names, TABLE_SUFFIXES)
    image = _find_first(place, [pattern.format(name=name) for pattern in IMAGE_NAMES], IMAGE_SUFFIXES)
    if image is None and own:
        pictures = sorted(path for path in place.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
        image = pictures[0] if len(pictures) == 1 else None
    labels = _find_first(place, [f"{name}_Coords", f"{name}_labeled_coordinates"], TABLE_SUFFIXES)
    lacks = [wanted for wanted, path in ((f"{name}.tsv.gz", counts), (f"{name}.jpg", image)) if path is None]
    return SectionFiles(
        name=name,
        patient=place.name if name.startswith(f"{place.name}_") else "",  # ST-Net: <subtype>/<patient>/<patient>_<C1>
        counts=counts or place,
        spots=spots,
        image=image or place,
        labels=labels,
        missing=f"has no {' and no '.join(lacks)}" if lacks else "",
    )


def _find_first(place: Path, names: list[str], suffixes: tuple[str, ...]) -> Path | None:
    return next((path for name in names for suffix in suffixes if (path := place / f"{name}{suffix}").is_file()), None)
