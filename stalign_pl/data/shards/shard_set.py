"""A shard set opened for reading: its manifest, gene table, and slides as memory-mapped arrays and tar bytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stalign_pl.batch.damage import Damaged, DamagedSampleError
from stalign_pl.data.shards.source import FolderSource, ShardSource
from stalign_pl.data.shards.tar_bytes import TarBytes
from stalign_pl.errors import ShardError
from stalign_pl.shard_format import INDEX, INDEX_COLUMN, MEMBERS, GeneTable, Manifest, SlideRecord

if TYPE_CHECKING:
    from scipy import sparse

GAP = 2048
"""Bytes that are read over rather than skipped: a tar's header and padding between two members are fewer."""


class SlideShard:
    """One slide of a set, opened.

    Attributes:
        folder: where its files are, or are fetched to.
        record: its line of the manifest.
        table: its row in per-slide tables.
        fetch: brings a file, by name, into the folder before it is read; None where all are there.
    """

    def __init__(self, folder: Path, record: SlideRecord, table: int) -> None:
        self.folder, self.record, self.table = folder, record, table
        self.fetch: Callable[[str], None] | None = None

    def __len__(self) -> int:
        return self.record.spots

    @cached_property
    def counts(self) -> np.ndarray:
        """uint16|uint32 [2, nnz], memory-mapped; returned as a plain array, whose slices cost a tenth of a memmap's."""
        return self._load(self.record.counts, 2, 0).view(np.ndarray)

    @cached_property
    def index(self) -> np.ndarray:
        """int64 [N, len(INDEX)]. Read whole: 120 bytes a spot."""
        return np.array(self._load(self.record.index, len(INDEX), 1))

    @cached_property
    def spot_of_rank(self) -> np.ndarray:
        """int64 [N]: the spot index at each place of the tar order."""
        return np.argsort(self.index[:, INDEX_COLUMN["rank"]])

    @cached_property
    def panel(self) -> np.ndarray:
        """int32, sorted: gene indices that the slide measured."""
        return np.load(self.locate(self.record.panel), allow_pickle=False)

    @cached_property
    def xy(self) -> np.ndarray:
        """float32 [N, 2]: the spots' positions in pitches (distances of nearest spots)."""
        path = self.locate(self.record.h5ad)
        try:
            positions = _read_positions(path)
        except (OSError, KeyError) as error:
            raise ShardError(f"{path}: the spots' positions, obsm/spatial, cannot be read: {error}") from error
        return (positions * (self.record.um_per_px / self.record.pitch_um)).astype(np.float32)

    def move(self, folder: Path) -> None:
        """Read from a copy of all the slide's files from now on."""
        self.folder, self.fetch = folder, None
        for opened in ("counts", "index", "spot_of_rank", "panel", "xy"):
            self.__dict__.pop(opened, None)

    def locate(self, name: str) -> Path:
        """Return the path of one of the slide's files, which is fetched first if need be."""
        if self.fetch is not None:
            self.fetch(name)
        return self.folder / name

    def tar_of(self, spot: int) -> Path:
        """Return the path of the tar that holds a spot's sample."""
        return self.locate(self.record.tars[int(self.column("part")[spot])])

    def _load(self, name: str, width: int, axis: int) -> np.ndarray:
        path = self.locate(name)
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise ShardError(f"{path} of slide {self.record.name!r} cannot be read: {error}") from error
        if array.ndim != 2 or array.shape[axis] != width or (axis == 1 and len(array) != self.record.spots):
            raise ShardError(f"{path} of slide {self.record.name!r} has shape {array.shape}, not as the manifest says")
        return array

    def column(self, name: str) -> np.ndarray:
        """Return a column of the index, int64 [N]."""
        return self.index[:, INDEX_COLUMN[name]]

    def pairs(self, spots: Sequence[int] | np.ndarray) -> list[np.ndarray]:
        """Return gene indices and counts, [2, nnz], of each spot: views of the memory map."""
        first = INDEX_COLUMN["counts_start"]
        bounds = self.index[spots, first : first + 2].tolist()
        counts = self.counts
        return [counts[:, start:stop] for start, stop in bounds]

    def csr(self, genes: int, spots: np.ndarray | None = None) -> sparse.csr_matrix:
        """Return the raw counts of spots (all by default) as CSR [n, genes of the set], int64."""
        from scipy import sparse

        spots = np.arange(len(self)) if spots is None else spots
        pairs = [np.zeros((2, 0), np.uint16), *self.pairs(spots)]
        indptr = np.cumsum([part.shape[1] for part in pairs])
        gene, count = np.concatenate(pairs, axis=1).astype(np.int64)
        return sparse.csr_matrix((count, gene, indptr), (len(spots), genes))

    def runs(self, ranks: np.ndarray, tars: TarBytes, at: int = 0, members: Sequence[str] = MEMBERS) -> list[Run]:
        """Read the samples at some places of the tar order; those that lie side by side in a tar make one run.

        Args:
            ranks: int [n], places in the tar order.
            tars: reads the bytes, and keeps them.
            at: place in the batch of the first of them.
            members: those that are read, in the order of MEMBERS.
        """
        spots = self.spot_of_rank[ranks]
        part = self.column("part")[spots]
        bounds = self.index[spots, INDEX_COLUMN[f"{MEMBERS[0]}_offset"] :].reshape(len(spots), len(MEMBERS), 2)
        bounds[:, :, 1] += bounds[:, :, 0]
        wanted = [MEMBERS.index(member) for member in members]
        starts = [0, *(np.flatnonzero((np.diff(ranks) != 1) | (np.diff(part) != 0)) + 1).tolist(), len(spots)]
        found = []
        for start, stop in pairwise(starts):
            path = self.locate(self.record.tars[part[start]])
            ranges, within = _read_over_gaps(bounds[start:stop], wanted)
            found.append(Run(self, at + start, spots[start:stop].tolist(), tars.read(path, ranges), within))
        return found


def _read_positions(path: Path) -> np.ndarray:
    """Read the positions, [N, 2] px of the full-resolution frame, from a slide's h5ad.

    Raises:
        KeyError: no dataset is there.
        OSError: not an HDF5 file.
    """
    import h5py

    with h5py.File(path) as file:
        node = file["obsm/spatial"]
        if not isinstance(node, h5py.Dataset):
            raise KeyError("it is not an array")
        return np.asarray(node[()])


def _read_over_gaps(bounds: np.ndarray, wanted: list[int]) -> tuple[list[tuple[int, int]], list[int]]:
    """Say what to read of a tar to have the wanted members of some samples, and where they then are.

    Args:
        bounds: int [n, members, (begin, end)], ascending.
        wanted: numbers of the members, ascending.

    Returns:
        (offset, length) of each read; and the bounds in what these bring, flat, (0, 0) of a member that is not wanted.
    """
    places = bounds[:, wanted].reshape(-1, 2)
    cuts = np.flatnonzero(places[1:, 0] - places[:-1, 1] > GAP) + 1
    first, last = np.append(0, cuts), np.append(cuts, len(places)) - 1
    begin, length = places[first, 0], places[last, 1] - places[first, 0]
    moved = np.repeat(np.cumsum(length) - length - begin, last - first + 1)
    within = np.zeros_like(bounds)
    within[:, wanted] = (places + moved[:, None]).reshape(len(bounds), len(wanted), 2)
    return list(zip(begin.tolist(), length.tolist(), strict=True)), within.ravel().tolist()


@dataclass(frozen=True)
class Run:
    """Samples that lie side by side in a tar, as they were read, valid as long as the bytes (`TarBytes`).

    A few objects for many samples, because Python's collector walks through all that is alive each time some hundred
    more of its objects are: with a dict and five slices a sample it took a tenth of the loader's time (measured).

    Attributes:
        slide: the slide that they are of.
        at: place in the batch of the first one; the others follow.
        spots: their spot indices.
        data: their bytes.
        bounds: begin and end in `data` of each member of each, one after another; of no bytes where it was not read.
    """

    slide: SlideShard
    at: int
    spots: list[int]
    data: memoryview
    bounds: list[int]

    def payload(self, number: int, member: int) -> memoryview:
        """Return the bytes of a sample's member; both by number."""
        place = 2 * (number * len(MEMBERS) + member)
        return self.data[self.bounds[place] : self.bounds[place + 1]]

    def damaged(self, number: int, error: DamagedSampleError) -> Damaged:
        """Describe a damaged sample and what is wrong with it."""
        record, spot = self.slide.record, self.spots[number]
        return Damaged(record.number, record.name, spot, str(self.slide.tar_of(spot)), str(error))


class ShardSet:
    """A set of slides in a folder, which holds all their files or is what staging fetches them into.

    Args:
        folder: holds manifest.json and genes.tsv.
        source: where the files come from; the folder itself by default.

    Raises:
        ConfigError: no such folder, or the address of a set on another machine.
        ShardError: no manifest, another format version, or a gene table that is not the manifest's.
    """

    def __init__(self, folder: str | Path, source: ShardSource | None = None) -> None:
        self.folder = Path(folder)
        self.source = FolderSource(self.folder) if source is None else source
        self.manifest = Manifest.read(self.folder)
        self.genes = GeneTable.read(self.folder / "genes.tsv")
        if self.genes.digest() != self.manifest.gene_table:
            raise ShardError(
                f"{self.folder / 'genes.tsv'} is not the gene table that {self.folder / 'manifest.json'} was written "
                f"with (digest {self.genes.digest()[:12]} against {self.manifest.gene_table[:12]}): build the set again"
            )
        self.slides = {
            record.number: SlideShard(self.folder, record, row) for row, record in enumerate(self.manifest.slides)
        }

    def digest(self) -> str:
        """Return a SHA-256 that names the data, see `Manifest.digest`."""
        return self.manifest.digest()

    def of_patients(self, patients: list[str], what: str) -> dict[int, SlideShard]:
        """Select the slides of some patients.

        Args:
            patients: their names.
            what: the setting that names them, for errors.

        Raises:
            ShardError: a patient whom the set does not hold.
        """
        known = sorted({record.patient for record in self.manifest.slides})
        unknown = sorted(set(patients) - set(known))
        if unknown:
            raise ShardError(
                f"{what}: no patient {', '.join(map(repr, unknown))} in {self.source.place}; known: {', '.join(known)}"
            )
        return {number: slide for number, slide in self.slides.items() if slide.record.patient in patients}
