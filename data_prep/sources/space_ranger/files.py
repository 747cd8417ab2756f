"""Which of Space Ranger's files a slide has: in outs/ of versions 1 to 4, or prefixed in a flat folder (GEO)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from data_prep.slide.slide import SlideError
from data_prep.sources.space_ranger.matrix import MatrixFiles
from data_prep.sources.space_ranger.names import (
    NAMES,
    OWN_PICTURES,
    SPOTS,
    KnownFile,
    find_pictures,
    has_prefix,
    recognise_file,
)


@dataclass(frozen=True)
class SpaceRangerFiles:
    """A slide's files.

    Attributes:
        slide_name: for messages.
        known: those with a name of Space Ranger's.
        full: candidates for the full-resolution image.
        places: the folders looked in, for messages.
        full_places: those looked in for the full-resolution image.
        notes: what was there and not used.
    """

    slide_name: str
    known: tuple[KnownFile, ...]
    full: tuple[Path, ...]
    places: tuple[Path, ...]
    full_places: tuple[Path, ...]
    notes: tuple[str, ...] = ()

    def one(self, kind: str, raw: bool = False) -> Path | None:
        """Find the file of a kind, the preferred name first, an unprefixed one before a prefixed.

        Raises:
            SlideError: two of one name with different prefixes.
        """
        found = [file for file in self.known if file.kind == kind and file.raw == raw]
        if not found:
            return None
        best = min((file.rank, file.prefix != "") for file in found)
        first = [file.path for file in found if (file.rank, file.prefix != "") == best]
        if len({path.name for path in first}) > 1:
            raise SlideError(self.slide_name, f"several {kind} files, keep one: {', '.join(map(str, first))}")
        return first[0]

    def matrix(self) -> MatrixFiles:
        """Find the filtered matrix, else the raw one; HDF5 before a matrix folder.

        Raises:
            SlideError: there is none.
        """
        for raw in (False, True):
            h5, mtx = self.one("h5", raw), self.one("mtx", raw)
            if h5 is not None:
                return MatrixFiles(h5, raw=raw)
            if mtx is not None:
                return MatrixFiles(mtx, *self._find_beside(mtx), raw=raw)
        raise SlideError(
            self.slide_name,
            f"a count matrix is missing: neither filtered_feature_bc_matrix.h5 nor filtered_feature_bc_matrix/ with "
            f"matrix.mtx, barcodes.tsv and features.tsv (nor a raw_feature_bc_matrix) is in {self._list_places()}"
            + "".join(f"; {note}" for note in self.notes),
        )

    def _find_beside(self, mtx: Path) -> tuple[Path, Path]:
        near = replace(self, known=tuple(file for file in self.known if file.path.parent == mtx.parent))
        raw = next(file.raw for file in self.known if file.path == mtx)
        barcodes, features = near.one("barcodes", raw), near.one("features", raw)
        if barcodes is None or features is None:
            missing = "barcodes.tsv" if barcodes is None else "features.tsv (or genes.tsv)"
            raise SlideError(self.slide_name, f"{mtx} has no {missing} beside it")
        return barcodes, features

    def positions(self) -> Path:
        """Find the positions file (version 2 before version 1).

        Raises:
            SlideError: there is none.
        """
        path = self.one("positions")
        if path is None:
            raise SlideError(
                self.slide_name,
                f"a positions file is missing: none of {', '.join(NAMES['positions'])} is in {self._list_places()}",
            )
        return path

    def _list_places(self) -> str:
        return ", ".join(map(str, self.places))


def holds_matrix(folder: Path) -> bool:
    """Whether a count matrix lies in a folder or its outs/, whatever else is missing."""
    bases = _find_bases(folder)
    places = [*bases, *(inner for base in bases for inner in _name_matrix_folders(base))]
    return any(file.kind in ("h5", "mtx") for file in _find_known(places))


def is_slide_folder(folder: Path) -> bool:
    """Whether a folder is one slide's: spatial/ or binned_outputs/ in it or its outs/, or positions beside a matrix."""
    if any((base / inner).is_dir() for base in _find_bases(folder) for inner in ("spatial", "binned_outputs")):
        return True
    known = list(_find_known([folder, *_name_matrix_folders(folder)]))
    return any(file.kind == "positions" and not file.prefix for file in known) and any(
        file.kind in ("h5", "mtx") for file in known
    )


def find_slide_files(slide_name: str, folder: Path, bin_um: int) -> SpaceRangerFiles:
    """Find the files of a slide that has its own folder.

    Args:
        slide_name: for messages.
        folder: the slide's, with spatial/ or outs/ in it.
        bin_um: which bins to take where there are binned_outputs/ (Visium HD).

    Raises:
        SlideError: no such bins.
    """
    bases = _find_bases(folder)
    notes = []
    if any((base / "segmented_outputs").is_dir() for base in bases):
        notes.append("segmented_outputs (cells) not read; spots are bins")
    binned = next((base / "binned_outputs" for base in bases if (base / "binned_outputs").is_dir()), None)
    outs = next((base for base in bases if (base / "spatial").is_dir()), folder)
    results = outs
    if binned is not None:
        results = binned / f"square_{bin_um:03d}um"
        if not results.is_dir():
            have = sorted(path.name for path in binned.glob("square_*um"))
            raise SlideError(slide_name, f"{binned} has no square_{bin_um:03d}um (bin_um: {bin_um}); it has {have}")
    places = [results, *_name_matrix_folders(results), results / "spatial"]
    known = [*_find_known(places)]
    have = {file.kind for file in known}
    if binned is None:
        known += [file for file in _find_known(bases) if file.kind not in have]
    else:  # of a Visium HD run as a whole: pictures and panel, not another bin's spots
        whole = _find_known([base / inner for base in bases for inner in ("spatial", "")])
        known += [file for file in whole if file.kind not in have | SPOTS]
    tops = [*bases, *(base / "microscope_image" for base in bases)]
    full = _find_full_images(bases) or [
        path for top in tops[len(bases) :] for path in find_pictures(top) if not OWN_PICTURES.search(path.name)
    ]
    return SpaceRangerFiles(slide_name, tuple(known), tuple(full), tuple(places), tuple(tops), tuple(notes))


def find_spatial_files(slide_name: str, spatial: Path) -> SpaceRangerFiles:
    """Find the files of a spatial/ folder alone, beside another kind of matrix."""
    return SpaceRangerFiles(slide_name, tuple(_find_known([spatial])), (), (spatial,), ())


def find_prefixes(folder: Path) -> list[str]:
    """Find the prefixes in a flat folder, one a slide."""
    return sorted({file.prefix for file in _find_known([folder]) if file.prefix})


def find_prefixed_files(folder: Path, prefix: str) -> SpaceRangerFiles:
    """Find the files of one prefix in a flat folder; the slide has the prefix's name.

    Any other picture of that prefix is taken as the full-resolution image.
    """
    others = [other for other in find_prefixes(folder) if len(other) > len(prefix)]
    known = tuple(file for file in _find_known([folder]) if file.prefix == prefix)
    full = tuple(
        path
        for path in find_pictures(folder)
        if has_prefix(path.name, prefix)
        and not any(has_prefix(path.name, other) for other in others)
        and not OWN_PICTURES.search(path.name)
    )
    place = (folder / f"{prefix}_*",)
    return SpaceRangerFiles(prefix, known, full, place, place)


def _find_bases(folder: Path) -> list[Path]:
    return [base for base in (folder, folder / "outs") if base.is_dir()]


def _name_matrix_folders(results: Path) -> list[Path]:
    return [results / f"{kind}_feature_bc_matrix" for kind in ("filtered", "raw")]


def _find_known(folders: Iterable[Path]) -> Iterator[KnownFile]:
    for folder in folders:
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            file = recognise_file(path)
            if file is None or not path.is_file():
                continue
            raw = file.raw or folder.name == "raw_feature_bc_matrix"
            yield KnownFile(path, file.prefix, file.kind, raw, file.rank)


def _find_full_images(bases: list[Path]) -> list[Path]:
    """Find pictures with "image" in their names; where there is none, TIFFs of any name, which are a microscope's."""
    found = [path for base in bases for path in find_pictures(base) if not OWN_PICTURES.search(path.name)]
    named = [path for path in found if "image" in path.name.lower()]
    return named or [path for path in found if re.search(r"\.(tiff?|btf)(\.gz)?$", path.name.lower())]
