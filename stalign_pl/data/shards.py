"""A shard set opened for reading: its manifest, gene table, and slides as memory-mapped arrays and tar bytes."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stalign_pl.errors import ShardError
from stalign_pl.shard_format import INDEX, INDEX_COLUMN, MEMBERS, GeneTable, Manifest, SlideRecord

if TYPE_CHECKING:
    from scipy import sparse

OPEN_TARS = 256
BLOCK = 1 << 24

GAP = 2048
"""Bytes that are read over rather than skipped: a tar's header and padding between two members are fewer."""


class TarBytes:
    """Byte ranges of tar files, one `pread` each; the most recently used files stay open.

    The bytes land one range after another in blocks of memory that `forget` makes free to be used again: memory that
    is mapped anew for every range costs more than the copy.
    """

    def __init__(self) -> None:
        self._open: OrderedDict[Path, int] = OrderedDict()
        self._blocks = [bytearray(BLOCK)]
        self._block, self._used = 0, 0

    def forget(self) -> None:
        """All that was read may be written over."""
        self._block, self._used = 0, 0

    def _space(self, length: int) -> memoryview:
        """The next free `length` bytes."""
        while self._used + length > len(self._blocks[self._block]):
            self._block, self._used = self._block + 1, 0
            if self._block == len(self._blocks):
                self._blocks.append(bytearray(max(BLOCK, length)))
        start, self._used = self._used, self._used + length
        return memoryview(self._blocks[self._block])[start : self._used]

    def read(self, path: Path, offset: int, length: int) -> memoryview:
        """`length` bytes of a tar, valid until `forget`.

        Raises:
            ShardError: the file ends early.
        """
        descriptor = self._open.pop(path, None)
        if descriptor is None:
            descriptor = os.open(path, os.O_RDONLY)
        self._open[path] = descriptor
        if len(self._open) > OPEN_TARS:
            os.close(self._open.popitem(last=False)[1])
        data = self._space(length)
        if os.preadv(descriptor, [data], offset) != length:
            size = os.fstat(descriptor).st_size
            raise ShardError(
                f"{path} is truncated: {size} bytes, but the index names bytes {offset} to {offset + length}. "
                f"Run: python -m data_prep check {path.parent}"
            )
        return data

    def close(self) -> None:
        while self._open:
            os.close(self._open.popitem()[1])


class SlideShard:
    """One slide of a set, opened.

    Attributes:
        record: its line of the manifest.
        table: its row in per-slide tables.
    """

    def __init__(self, folder: Path, record: SlideRecord, table: int) -> None:
        self.folder, self.record, self.table = folder, record, table

    def __len__(self) -> int:
        return self.record.spots

    @cached_property
    def counts(self) -> np.ndarray:
        """uint16|uint32 [2, nnz], memory-mapped; as a plain array, whose slices cost a tenth of a memmap's."""
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
        return np.load(self.folder / self.record.panel, allow_pickle=False)

    @cached_property
    def xy(self) -> np.ndarray:
        """float32 [N, 2]: the spots' positions in pitches (distances of nearest spots)."""
        import h5py

        path = self.folder / self.record.h5ad
        try:
            with h5py.File(path) as file:
                xy = file["obsm/spatial"][()]
        except (OSError, KeyError) as error:
            raise ShardError(f"{path}: the spots' positions, obsm/spatial, cannot be read: {error}") from error
        return (xy * (self.record.um_per_px / self.record.pitch_um)).astype(np.float32)

    def move(self, folder: Path) -> None:
        """Read from a copy of the slide's files from now on."""
        self.folder = folder
        for opened in ("counts", "index", "spot_of_rank", "panel", "xy"):
            self.__dict__.pop(opened, None)

    def tar_of(self, spot: int) -> Path:
        """The tar that holds a spot's sample."""
        return self.folder / self.record.tars[int(self.column("part")[spot])]

    def _load(self, name: str, width: int, axis: int) -> np.ndarray:
        path = self.folder / name
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise ShardError(f"{path} of slide {self.record.name!r} cannot be read: {error}") from error
        if array.ndim != 2 or array.shape[axis] != width or (axis == 1 and len(array) != self.record.spots):
            raise ShardError(f"{path} of slide {self.record.name!r} has shape {array.shape}, not as the manifest says")
        return array

    def column(self, name: str) -> np.ndarray:
        return self.index[:, INDEX_COLUMN[name]]

    def pairs(self, spots: Sequence[int] | np.ndarray) -> list[np.ndarray]:
        """For each spot [2, nnz]: gene indices and counts, views of the memory map."""
        first = INDEX_COLUMN["counts_start"]
        bounds = self.index[spots, first : first + 2].tolist()
        counts = self.counts
        return [counts[:, start:stop] for start, stop in bounds]

    def csr(self, genes: int, spots: np.ndarray | None = None) -> sparse.csr_matrix:
        """Raw counts of spots (all by default) as CSR [n, genes of the set], int64."""
        from scipy import sparse

        spots = np.arange(len(self)) if spots is None else spots
        pairs = [np.zeros((2, 0), np.uint16), *self.pairs(spots)]
        indptr = np.cumsum([part.shape[1] for part in pairs])
        gene, count = np.concatenate(pairs, axis=1).astype(np.int64)
        return sparse.csr_matrix((count, gene, indptr), (len(spots), genes))

    def samples(
        self, ranks: np.ndarray, tars: TarBytes, members: Sequence[str] = MEMBERS
    ) -> list[dict[str, memoryview]]:
        """The named members of the samples at the given places; what lies side by side in the tar comes in one read."""
        spots = self.spot_of_rank[ranks]
        part = self.column("part")[spots]
        columns = np.array([INDEX_COLUMN[f"{member}_offset"] for member in members])
        places = self.index[spots][:, np.stack([columns, columns + 1], axis=1)]  # [n, members, (offset, length)]
        starts = [0, *(np.flatnonzero((np.diff(ranks) != 1) | (np.diff(part) != 0)) + 1).tolist(), len(spots)]
        found: list[dict[str, memoryview]] = []
        for start, stop in pairwise(starts):
            run = places[start:stop].reshape(-1, 2).tolist()  # Python integers: slicing by numpy's costs more
            payloads = _payloads(self.folder / self.record.tars[part[start]], run, tars)
            found += [dict(zip(members, payloads, strict=False)) for _ in range(stop - start)]
        return found


def _payloads(path: Path, places: list[list[int]], tars: TarBytes) -> Iterator[memoryview]:
    """The bytes at the given (offset, length) of a tar, in order; gaps of GAP bytes or less are read over."""
    first = 0
    for last, (offset, length) in enumerate(places):
        end = offset + length
        if last + 1 < len(places) and places[last + 1][0] - end <= GAP:
            continue
        begin = places[first][0]
        data = tars.read(path, begin, end - begin)
        for offset, length in places[first : last + 1]:
            yield data[offset - begin : offset - begin + length]
        first = last + 1


class ShardSet:
    """A folder of shards.

    Raises:
        ShardError: no manifest, another format version, or a gene table that is not the manifest's.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
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
        """Names the data: changes with any file of any slide."""
        import hashlib

        sums = [file["sha256"] for record in self.manifest.slides for file in record.files.values()]
        return hashlib.sha256("".join([self.manifest.gene_table, *sums]).encode()).hexdigest()

    def of_patients(self, patients: list[str], what: str) -> dict[int, SlideShard]:
        """The slides of the named patients.

        Raises:
            ShardError: a patient whom the set does not hold.
        """
        known = sorted({record.patient for record in self.manifest.slides})
        unknown = sorted(set(patients) - set(known))
        if unknown:
            raise ShardError(
                f"{what}: no patient {', '.join(map(repr, unknown))} in {self.folder}; known: {', '.join(known)}"
            )
        return {number: slide for number, slide in self.slides.items() if slide.record.patient in patients}
