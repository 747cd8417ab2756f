"""What a shard set is on disk: names, keys, dtypes, version. `data_prep` writes by it, `stalign_pl.data` reads by it.

One slide is one tar of WebDataset samples (one spot a sample), and beside it an AnnData file and two memory-mapped
arrays. Nothing here imports torch, anndata or webdataset.

    manifest.json           Manifest: format version, build settings, one SlideRecord a slide
    genes.tsv               GeneTable: row number = the gene index used in every file of the set
    panel-<hash>.npy        int32 [n], sorted: the gene indices that a slide measured (slides on one panel share it)
    <stem>.tar              per spot: spot.{png,jpg} niche.{png,jpg} genes.npy neighbors.npy meta.json
    <stem>.h5ad             the slide for people and for evaluation: raw counts, positions, labels, neighbour graph
    <stem>.counts.npy       uint16|uint32 [2, nnz]: gene index; raw count; the spots in order, see INDEX
    <stem>.index.npy        int64 [N, len(INDEX)], row = spot index
    <stem>.json             the slide's SlideRecord; the manifest is put together from these
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from stalign_pl.errors import ConfigError, ShardError

FORMAT_VERSION = 2

MEMBERS = ("spot", "niche", "genes", "neighbors", "meta")
"""The members of a sample, in the order in which they stand in the tar (so that one read fetches a run of samples)."""

INDEX = (
    *("counts_start", "counts_stop", "part", "rank", "crc32"),
    *(f"{member}_{what}" for member in MEMBERS for what in ("offset", "length")),
)
"""Columns of `<stem>.index.npy`.

counts_*: the spot's columns of counts.npy. part: number of the tar. rank: the sample's place in the tars' seeded random
order, counted over all parts. crc32: of the members' payloads, one after another. <member>_offset, _length: the
payload's bytes in its tar.
"""

INDEX_COLUMN = {name: column for column, name in enumerate(INDEX)}

MAX_SIDE_PX = 224
"""Images are stored at native resolution, never enlarged, at most this many pixels a side."""

LOSSLESS_BELOW_PX = 64
"""Crops with a side below this are PNG, others JPEG 4:4:4."""

BOX_MEMBERS = 18
"""meta.json holds the niche's bounding box for K = 0 .. this many members (fewer where the spot has fewer)."""


def sample_key(slide_number: int, spot: int) -> str:
    """The WebDataset key. No dot and no free text: WebDataset cuts a key at its first dot and merges silently."""
    return f"{slide_number:05d}_{spot:06d}"


def file_stem(slide_name: str) -> str:
    """A file name for a slide of any name: unsafe characters become `_`, and then a hash keeps two names apart."""
    safe = re.sub(r"[^A-Za-z0-9_-]+", "_", slide_name).strip("_") or "slide"
    if safe == slide_name:
        return safe
    return f"{safe[:80]}-{hashlib.sha256(slide_name.encode()).hexdigest()[:8]}"


def tar_name(stem: str, part: int, parts: int) -> str:
    """`<stem>.tar`, or `<stem>-part000.tar`, ... where a slide is large enough to be cut."""
    return f"{stem}.tar" if parts == 1 else f"{stem}-part{part:03d}.tar"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; move it to `path` when the block ends well, remove it when not.

    The file is flushed to disk before it is renamed, so a reader (or a restart) sees the old file or the whole new one.
    """
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp gives 0600; a shard set is read by the whole lab
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def sweep(folder: Path, *names: str) -> None:
    """Remove what killed writers of these files left: temporary files of `replacing`. For the files' only writer.

    Args:
        names: file names; `*` stands for any text, as in `<stem>-part*.tar`.
    """
    for name in names:
        for left in sorted(folder.glob(f".{name}.*.tmp")):
            left.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically, keys in the order given, one trailing newline."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n")


def content_sha256(content: Mapping[str, Any]) -> str:
    """SHA-256 of a JSON content whatever the order of its keys; a file that people may edit carries it."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class GeneTable:
    """The set's gene axis. `ids[i]`: Ensembl id without version, `symbols[i]`: symbol; '' where none is known."""

    ids: tuple[str, ...]
    symbols: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def names(self) -> tuple[str, ...]:
        """One name a gene, for people: the symbol where there is one, else the Ensembl id."""
        return tuple(symbol or gene for gene, symbol in zip(self.ids, self.symbols, strict=True))

    def digest(self) -> str:
        """SHA-256 of the table; every artefact made with gene indices names it."""
        text = "".join(f"{gene}\t{symbol}\n" for gene, symbol in zip(self.ids, self.symbols, strict=True))
        return hashlib.sha256(text.encode()).hexdigest()

    def lookup(self, name: str) -> int | None:
        """Gene index of an Ensembl id (a version suffix is ignored) or a symbol; None where the table has neither."""
        return self._index().get(re.sub(r"^(ENS[A-Z]*G\d+)\.\d+$", r"\1", name))

    def _index(self) -> dict[str, int]:
        cached = self.__dict__.get("_names_to_index")
        if cached is None:
            cached = {}
            for number in reversed(range(len(self))):  # the first row of a repeated symbol wins
                cached.update({name: number for name in (self.symbols[number], self.ids[number]) if name})
            object.__setattr__(self, "_names_to_index", cached)
        return cached

    def write(self, path: Path) -> None:
        with replacing(path) as temporary:
            rows = [f"{i}\t{g}\t{s}\n" for i, (g, s) in enumerate(zip(self.ids, self.symbols, strict=True))]
            temporary.write_text("index\tensembl_id\tsymbol\n" + "".join(rows))

    @classmethod
    def read(cls, path: Path) -> GeneTable:
        lines = path.read_text().splitlines()
        if not lines or lines[0].split("\t") != ["index", "ensembl_id", "symbol"]:
            raise ShardError(f"{path}: the first line should be 'index<TAB>ensembl_id<TAB>symbol'")
        rows = [line.split("\t") for line in lines[1:]]
        for number, row in enumerate(rows):
            if len(row) != 3 or row[0] != str(number):
                raise ShardError(
                    f"{path}: line {number + 2} should be '{number}<TAB>ensembl_id<TAB>symbol', is {row!r}"
                )
        return cls(ids=tuple(row[1] for row in rows), symbols=tuple(row[2] for row in rows))


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
    sharpness: float  # of the image around the spots, see data_prep/quality.py
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
    def from_json(cls, value: dict[str, Any], origin: Path) -> SlideRecord:
        known = {item.name for item in fields(cls)}
        missing, extra = sorted(known - value.keys()), sorted(value.keys() - known)
        if missing or extra:
            raise ShardError(
                f"{origin}: slide {value.get('name', '?')!r}: missing keys {missing}, unknown keys {extra}"
            )
        lists = {name: tuple(value[name]) for name in ("tars", "notes", "ring_members")}
        return cls(**{**value, **lists})

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Manifest:
    """`manifest.json`: what the set holds and how it was built."""

    gene_table: str  # digest of genes.tsv
    genes: int
    settings: dict[str, Any]  # build settings, as given
    slides: tuple[SlideRecord, ...]  # by number
    format_version: int = FORMAT_VERSION

    def write(self, folder: Path) -> None:
        write_json(folder / "manifest.json", {**asdict(self), "slides": [slide.to_json() for slide in self.slides]})

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Read a set's manifest.

        Raises:
            ConfigError: no such folder.
            ShardError: no manifest, not JSON, or written by another format version.
        """
        path = folder / "manifest.json"
        if not path.is_file():
            if not folder.is_dir():
                raise ConfigError(f"there is no folder {folder}")
            if (folder / "plan.json").is_file():
                raise ShardError(
                    f"{folder} has no manifest.json: its build is still running, or was stopped. Give the build's "
                    f"command again (without --task)"
                )
            raise ShardError(
                f"{folder} is not a shard set: it has no manifest.json. Build one: python -m data_prep build"
            )
        try:
            value = json.loads(path.read_text())
        except json.JSONDecodeError as error:
            raise ShardError(f"{path} is not JSON: {error}") from error
        version = value.get("format_version")
        if version != FORMAT_VERSION:
            raise ShardError(
                f"{folder} has shard format version {version!r}, this program reads version {FORMAT_VERSION}. "
                f"Build the set again with this version's data_prep, or install the version that wrote it."
            )
        slides = tuple(SlideRecord.from_json(slide, path) for slide in value.pop("slides"))
        return cls(**value, slides=slides)
