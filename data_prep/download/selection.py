"""Which slides of a data set are wanted: by patterns of names, or by the slides that a plan keeps."""

from __future__ import annotations

import csv
import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from data_prep.download.datasets import FileKind, PublicDataset
from data_prep.download.hub import Listing, RemoteFile
from stalign_pl.errors import ConfigError

NEAR_MISSES = 5
KEPT = {"yes": True, "no": False}


@dataclass(frozen=True)
class RemoteSlide:
    """A slide of a repository: its files by kind. `lacks`: kinds that a build needs and the repository has not."""

    name: str
    files: dict[str, RemoteFile]
    lacks: tuple[str, ...]


def find_slides(dataset: PublicDataset, listing: Listing) -> dict[str, RemoteSlide]:
    """Find all slides of a listing, by name."""
    found: dict[str, dict[str, RemoteFile]] = {}
    for file in listing.files:
        for kind in dataset.kinds:
            match = kind.path.fullmatch(file.path)
            if match:
                found.setdefault(match["slide"], {})[kind.name] = file
    return {
        name: RemoteSlide(
            name, files, tuple(kind.name for kind in dataset.kinds if kind.every_slide and kind.name not in files)
        )
        for name, files in sorted(found.items())
        if dataset.kinds[0].name in files
    }


def find_catalogue_files(dataset: PublicDataset, listing: Listing) -> tuple[RemoteFile, ...]:
    """Find the files that describe all slides."""
    return tuple(file for file in listing.files if dataset.catalogue.fullmatch(file.path))


def select_kinds(dataset: PublicDataset, images: bool) -> tuple[FileKind, ...]:
    """List the kinds of files to fetch."""
    return tuple(kind for kind in dataset.kinds if images or not kind.image)


def match_names(patterns: Sequence[str], known: Iterable[str]) -> tuple[str, ...]:
    """Find the names that match one of the patterns (`*`, `?`, `[abc]`; upper and lower case differ), sorted.

    Raises:
        ConfigError: a pattern that matches no name; lists those that come near.
    """
    known = sorted(known)
    found: set[str] = set()
    for pattern in patterns:
        names = [name for name in known if fnmatchcase(name, pattern)]
        if not names:
            raise ConfigError(f"no slide matches {pattern!r}; {suggest_names(pattern, known)}")
        found.update(names)
    return tuple(sorted(found))


def suggest_names(pattern: str, known: Sequence[str]) -> str:
    """Suggest, in words, names that a pattern or name may have meant."""
    folded = [name for name in known if fnmatchcase(name.lower(), f"*{pattern.lower()}*")]
    plain = pattern.lower().strip("*?")
    lower = {name.lower(): name for name in known}
    near = folded or [lower[name] for name in difflib.get_close_matches(plain, lower, NEAR_MISSES, cutoff=0.5)]
    if near:
        more = f" and {len(near) - NEAR_MISSES} more" if len(near) > NEAR_MISSES else ""
        return f"near misses: {', '.join(near[:NEAR_MISSES])}{more}"
    return f"there are {len(known)}, such as {', '.join(known[:NEAR_MISSES])}"


def read_kept_slides(path: Path, dataset: PublicDataset) -> tuple[str, ...]:
    """Read the slides of a data set that a plan's table (`python -m data_prep plan --out slides.csv`) keeps; sorted.

    Rows of another source are passed over, where the table has a column `source`.

    Raises:
        ConfigError: no such file, no columns slide and kept, a `kept` that is not yes or no, or no slide kept.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            missing = {"slide", "kept"} - set(rows.fieldnames or ())
            if missing:
                raise ConfigError(
                    f"{path} has no column {sorted(missing)[0]!r}; wanted: a table as `python -m data_prep plan` writes"
                )
            table = [row for row in rows if row.get("source") in (None, "", dataset.source, dataset.name)]
    except (FileNotFoundError, IsADirectoryError) as error:
        raise ConfigError(f"there is no plan {path}") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as CSV: {error}") from error
    for row in table:
        if row["kept"] not in KEPT:
            raise ConfigError(f"{path}: slide {row['slide']!r}: kept is {row['kept']!r}; yes or no is wanted")
    kept = {row["slide"] for row in table if KEPT[row["kept"]]}
    if not kept:
        raise ConfigError(f"{path} keeps no slide of {dataset.source} ({len(table)} of its rows are of that source)")
    return tuple(sorted(kept))
