"""`manifest.json`: what a shard set holds, a record a slide, and how it was built."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any, NoReturn, get_type_hints

from stalign_pl.errors import ConfigError, ShardError
from stalign_pl.files import write_json
from stalign_pl.shard_format.address import is_remote, show_address
from stalign_pl.typed import read_typed

FORMAT_VERSION = 2


@dataclass(frozen=True)
class SlideRecord:
    """One slide of a set, as the manifest lists it. Sizes are micrometres (um) unless the name says px."""

    number: int
    name: str
    stem: str
    source: str
    patient: str  # the unit of every split
    patient_from: str  # who named it: "source", "sheet" or "config"; "study" or "slide" where that stands for it
    study: str
    species: str
    tissue: str
    technology: str
    licence: str
    spots: int
    measured_genes: int
    panel: str  # file name of the measured gene indices
    labels: dict[str, int]  # label column of the h5ad -> number of classes
    lattice: str  # "hex", "square" or "none"
    pitch_um: float  # distance of nearest spots
    um_per_px: float  # of the full-resolution frame, in which positions are given: from the lattice
    um_per_px_claims: dict[str, float]  # what else says so -> its answer
    image: str  # "fullres", "hires", "lowres" or "shipped" (slide.ImageKind): which image the crops come from
    image_um_per_px: float
    spot_um: float  # side of the spot crop
    niche_um: float  # side of the niche crop
    spot_px: int  # sides as stored
    niche_px: int
    spot_format: str  # "png" or "jpg"
    niche_format: str
    ring_members: tuple[int, ...]  # per ring of neighbours the most that a spot has in it and within it
    outside: float  # mean share of the niche crops that lies outside the image, 0 to 1
    on_tissue: float  # mean share of the spots' area that shows tissue, 0 to 1
    sharpness: float  # of the image around the spots, see data_prep/slide/quality.py
    notes: tuple[str, ...]  # what the reader and the curation saw
    tars: tuple[str, ...]
    files: dict[str, dict[str, Any]] = field(default_factory=dict)  # file name -> {"bytes": int, "sha256": str}

    @property
    def h5ad(self) -> str:
        return f"{self.stem}.h5ad"

    @property
    def counts(self) -> str:
        return f"{self.stem}.counts.npy"

    @property
    def index(self) -> str:
        return f"{self.stem}.index.npy"

    @classmethod
    def from_json(cls, value: dict[str, Any], origin: str | Path) -> SlideRecord:
        """Make a record of its JSON.

        Args:
            value: keys and values.
            origin: the file that they are from, for errors.

        Raises:
            ShardError: keys that are missing or not known.
        """
        if not isinstance(value, dict):
            raise ShardError(f"{origin}: a slide's record is an object; this one is {value!r:.60}")
        known = {item.name for item in fields(cls)}
        missing, extra = sorted(known - value.keys()), sorted(value.keys() - known)
        name = value.get("name", "?")
        if missing or extra:
            raise ShardError(f"{origin}: slide {name!r}: missing keys {missing}, unknown keys {extra}")
        hints = _read_hints()
        try:
            typed: dict[str, Any] = {key: read_typed(each, hints[key], key) for key, each in value.items()}
            return cls(**typed)
        except ConfigError as error:
            raise ShardError(f"{origin}: slide {name!r}: {error}") from error

    def to_json(self) -> dict[str, Any]:
        """Return the record's JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Manifest:
    """`manifest.json`: what the set holds and how it was built."""

    gene_table: str  # digest of genes.tsv
    genes: int
    settings: dict[str, Any]  # build settings, as given
    slides: tuple[SlideRecord, ...]  # by number
    format_version: int = FORMAT_VERSION

    def digest(self) -> str:
        """Return a SHA-256 that names the data: it changes with any file of any slide."""
        sums = [file["sha256"] for record in self.slides for file in record.files.values()]
        return hashlib.sha256("".join([self.gene_table, *sums]).encode()).hexdigest()

    def write(self, folder: Path) -> None:
        """Write `<folder>/manifest.json`."""
        write_json(folder / "manifest.json", {**asdict(self), "slides": [slide.to_json() for slide in self.slides]})

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Read a set's manifest.

        Raises:
            ConfigError: no such folder, or no folder but the address of a set elsewhere.
            ShardError: no manifest, not JSON, or written by another format version.
        """
        if is_remote(folder):
            raise ConfigError(
                f"the shard set {show_address(folder)} is not on this machine, and a folder is wanted here: copy the "
                f"set to one (only what takes data.stage_to, such as `fit`, can fetch a set itself)"
            )
        path = folder / "manifest.json"
        if not path.is_file():
            cls._refuse_without_manifest(folder)
        return cls.parse(path.read_text(), folder, path)

    @staticmethod
    def _refuse_without_manifest(folder: Path) -> NoReturn:
        if not folder.is_dir():
            raise ConfigError(f"there is no folder {folder}")
        if (folder / "plan.json").is_file():
            raise ShardError(
                f"{folder} has no manifest.json: its build is still running, or was stopped. Give the build's "
                f"command again (without --task)"
            )
        raise ShardError(f"{folder} is not a shard set: it has no manifest.json. Build one: python -m data_prep build")

    @classmethod
    def parse(cls, text: str, place: str | Path, path: str | Path) -> Manifest:
        """Make a manifest of its file's text.

        Args:
            text: JSON.
            place: where the set is, for errors.
            path: the file, for errors.

        Raises:
            ShardError: not JSON, or written by another format version.
        """
        try:
            value = json.loads(text)
        except json.JSONDecodeError as error:
            raise ShardError(f"{path} is not JSON: {error}") from error
        if not isinstance(value, dict):
            raise ShardError(f"{path} should be an object with the keys of a manifest, is {value!r:.60}")
        version = value.get("format_version")
        if version != FORMAT_VERSION:
            raise ShardError(
                f"{place} has shard format version {version!r}, this program reads version {FORMAT_VERSION}. "
                f"Build the set again with this version's data_prep, or install the version that wrote it."
            )
        kinds = {"gene_table": str, "genes": int, "settings": dict, "slides": list}
        wrong = [key for key, kind in kinds.items() if type(value.get(key)) is not kind]
        extra = sorted(value.keys() - kinds.keys() - {"format_version"})
        if wrong or extra:
            raise ShardError(
                f"{path} is not as `build` writes it: missing or of another type {wrong}, unknown keys {extra}. Give "
                f"the build's command again"
            )
        slides = tuple(SlideRecord.from_json(slide, path) for slide in value.pop("slides"))
        return cls(**value, slides=slides)


@cache
def _read_hints() -> dict[str, Any]:
    return get_type_hints(SlideRecord)
