"""Reads rows of a plan into a SpotBatch: bytes in runs, pictures decoded by threads, niches gathered by reference."""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import imagecodecs
import numpy as np
import torch

from stalign_pl.batch.buffers import BatchBuffers
from stalign_pl.batch.damage import Damaged, DamagedSampleError
from stalign_pl.batch.features import CachedFeatures, FeatureSource
from stalign_pl.batch.spot_batch import CountPairs, SpotBatch
from stalign_pl.data.niches.config import NicheConfig
from stalign_pl.data.niches.members import SlideRows
from stalign_pl.data.niches.of_batch import Neighbourhoods
from stalign_pl.data.reading.decoding import decode
from stalign_pl.data.shards.shard_set import Run, SlideShard
from stalign_pl.data.shards.tar_bytes import TarBytes
from stalign_pl.draws import Draws, draw_nothing
from stalign_pl.shard_format import INDEX_COLUMN, MEMBERS

PICTURES = ("spot", "niche")
"""The members of a sample that are pictures."""

DECODED_TOGETHER = 32
"""Rows a decoding job: submitting a job costs 0.2 ms, as much as decoding half a pair of 224 px pictures."""


class BatchReader:
    """Reads rows of a plan from a shard set.

    Args:
        slides: slide number -> slide, all that a plan may name.
        niche: which neighbours make a niche.
        draws: the rows' random numbers.
        threads: decoding threads.
        verify: compare every sample's bytes with the checksum of the index.
        pin: pictures in pinned memory, for transfer to a GPU.
        features: cached features, read in place of the input of their streams. A picture that no stream uses is neither
            read nor decoded, and then the sample's checksum is not compared: that was done when its features were made.
        decoded: the pictures that are decoded; others are read for the checksum alone.

    Raises:
        ConfigError: rings that the shards do not hold.
    """

    def __init__(
        self,
        slides: dict[int, SlideShard],
        niche: NicheConfig,
        draws: Draws = draw_nothing,
        threads: int = 2,
        verify: bool = True,
        pin: bool = False,
        features: FeatureSource | None = None,
        decoded: Collection[str] = PICTURES,
    ) -> None:
        self.slides, self.niche, self.draws = slides, niche, draws
        self.features, cached = features, frozenset() if features is None else features.streams
        used = tuple(member for member in PICTURES if f"{member}_image" not in cached)
        self.members = MEMBERS if used == PICTURES else (*used, "neighbors", "meta")
        self.decoded = frozenset(decoded).intersection(used)
        self.verify = verify and self.members == MEMBERS
        records = [slide.record for slide in slides.values()]
        self.spot_side = max(record.spot_px for record in records) if "spot" in self.decoded else 0
        self.niche_side = max(record.niche_px for record in records) if "niche" in self.decoded else 0
        rings = [record.ring_members for record in records]
        self.excluded_width, self.members_width = niche.excluded_width(rings), niche.members_width(rings)
        self._tars = TarBytes()
        self._buffers = BatchBuffers(pin)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")

    def close(self) -> None:
        """Stop the threads and close the tars."""
        self._pool.shutdown()
        self._tars.close()

    def read(self, slide: np.ndarray, rank: np.ndarray, epoch: int) -> SpotBatch:
        """Read B rows.

        A sample that its checksum or a decoder rejects becomes a row that is not valid and is listed in `damaged`.

        Args:
            slide: int [B], slide numbers, -1 in padding.
            rank: int [B], places in the slide's tar order, -1 in padding.
            epoch: decides the random numbers of the rows.

        Raises:
            ShardError: a truncated tar, by file.
        """
        self._tars.forget()
        batch = len(slide)
        sides = (self.spot_side, self.niche_side)
        spot_image, niche_image = (self._buffers.lend((batch, side, side, 3), torch.uint8) for side in sides)
        images = {"spot": spot_image.numpy(), "niche": niche_image.numpy()}
        pictures = _Pictures({member: of for member, of in images.items() if member in self.decoded})
        rows, runs, jobs, damaged = self._begin(slide, rank, pictures)
        spots = np.full(batch, -1, np.int64)
        near = Neighbourhoods(batch, self.niche, self.excluded_width, self.members_width)
        for run in runs:
            spots[run.at : run.at + len(run.spots)] = run.spots
        damaged |= _find_damaged(runs, near.read, damaged)
        table, spot_px, niche_px = np.zeros(batch, np.int64), np.ones(batch, np.float32), np.ones(batch, np.float32)
        for of in rows:
            here, record = slice(of.start, of.stop), of.slide.record
            table[here], spot_px[here], niche_px[here] = of.slide.table, record.spot_px, record.niche_px
        spot_box = np.zeros((batch, 4), np.float32)
        spot_box[:, 2:] = spot_px[:, None]
        spot_counts, niche_counts = (of.gather(rows, self._buffers) for of in (near.itself, near.members))
        for job in jobs:
            damaged |= job.result()
        lost = sorted(damaged)
        if lost:
            spots[lost], near.excluded[lost] = -1, -1
            spot_counts, niche_counts = (_remove_rows(pairs, lost) for pairs in (spot_counts, niche_counts))
        valid = spots >= 0
        draws = self.draws(epoch, np.where(valid, slide, 0), np.where(valid, spots, 0))
        features = CachedFeatures()
        if self.features is not None:
            features = self.features.read(epoch, slide, spots, self._buffers)
        shown = [values.numpy() for values in vars(features).values() if values is not None]
        columns = (*pictures.images.values(), *shown, spot_box, near.box, spot_px, niche_px, table)
        _show_valid_rows(columns, valid)
        return SpotBatch(
            slide=torch.from_numpy(np.where(valid, slide, -1).astype(np.int64)),
            spot=torch.from_numpy(spots),
            table=torch.from_numpy(table),
            valid=torch.from_numpy(valid),
            spot_image=spot_image,
            spot_box=torch.from_numpy(spot_box),
            spot_px=torch.from_numpy(spot_px),
            spot_counts=spot_counts,
            niche_image=niche_image,
            niche_box=torch.from_numpy(near.box),
            niche_px=torch.from_numpy(niche_px),
            niche_counts=niche_counts,
            excluded=torch.from_numpy(near.excluded),
            draws=torch.from_numpy(draws),
            damaged=tuple(damaged[at] for at in lost),
            features=features,
        )

    def _begin(
        self, slide: np.ndarray, rank: np.ndarray, pictures: _Pictures
    ) -> tuple[list[SlideRows], list[Run], list[Future[dict[int, Damaged]]], dict[int, Damaged]]:
        """Read the bytes, compare them with their checksums, and have the pictures decoded.

        Slide by slide, so that bytes are decoded while they are in the processor's cache.

        Args:
            slide: as in `read`.
            rank: as in `read`.
            pictures: where the pictures go.

        Returns:
            The rows by slide, their bytes, the decoding jobs under way, and the damaged rows.
        """
        rows: list[SlideRows] = []
        runs: list[Run] = []
        jobs: list[Future[dict[int, Damaged]]] = []
        damaged: dict[int, Damaged] = {}
        begun = 0
        starts = np.flatnonzero(np.diff(slide, prepend=-2))
        for start, stop in pairwise([*starts.tolist(), len(slide)]):
            if slide[start] < 0:
                continue
            shard = self.slides[int(slide[start])]
            fetched = shard.runs(rank[start:stop], self._tars, start, self.members)
            rows.append(SlideRows(shard, start, stop))
            runs += fetched
            if self.features is not None:
                damaged |= _find_damaged(fetched, partial(_refuse_damaged_before, self.features))
            if self.verify:
                damaged |= _find_damaged(fetched, _verify, damaged)
            if sum(len(run.spots) for run in runs[begun:]) >= DECODED_TOGETHER:
                jobs += self._decode(runs[begun:], pictures, damaged)
                begun = len(runs)
        return rows, runs, jobs + self._decode(runs[begun:], pictures, damaged), damaged

    def _decode(self, runs: list[Run], pictures: _Pictures, but: Iterable[int]) -> list[Future[dict[int, Damaged]]]:
        """Have the runs' pictures decoded, `but` those of some rows."""
        but = frozenset(but)
        return [self._pool.submit(_find_damaged, some, pictures.read, but) for some in _divide(runs)]


def _divide(runs: list[Run]) -> list[list[Run]]:
    """Divide runs into jobs, each of DECODED_TOGETHER rows or more."""
    jobs: list[list[Run]] = []
    rows = DECODED_TOGETHER
    for run in runs:
        if rows >= DECODED_TOGETHER:
            jobs.append([])
            rows = 0
        jobs[-1].append(run)
        rows += len(run.spots)
    return jobs


def _find_damaged(
    runs: list[Run], read: Callable[[Run, int], None], but: Container[int] = frozenset()
) -> dict[int, Damaged]:
    """Read every sample of the runs, `but` those of some rows.

    Args:
        runs: samples that were read together.
        read: takes a run and a sample's place in it; raises DamagedSampleError.
        but: rows that are left out.

    Returns:
        Row -> its damaged sample.
    """
    damaged = {}
    for run in runs:
        for number in range(len(run.spots)):
            try:
                if run.at + number not in but:
                    read(run, number)
            except DamagedSampleError as error:
                damaged[run.at + number] = run.damaged(number, error)
    return damaged


def _refuse_damaged_before(features: FeatureSource, run: Run, number: int) -> None:
    """Raise DamagedSampleError where the sample was damaged when its features were made, which are 0 then."""
    if not features.whole(run.slide.record.number, run.spots[number]):
        raise DamagedSampleError("it was damaged when its features were made")


def _verify(run: Run, number: int) -> None:
    """Raise DamagedSampleError where the bytes are not those that were written."""
    crc32 = 0
    for member in range(len(MEMBERS)):
        data = run.payload(number, member)
        # zlib's sum, by the widest instructions
        crc32 = imagecodecs.deflate_crc32(data, crc32)  # pyright: ignore[reportArgumentType] (it takes any buffer)
    if crc32 != run.slide.index[run.spots[number], INDEX_COLUMN["crc32"]]:
        raise DamagedSampleError("its bytes do not have the checksum of the index")


@dataclass(frozen=True)
class _Pictures:
    """Buffers of a batch's pictures.

    Attributes:
        images: member -> uint8 [B, side, side, 3], where the rows' pictures are decoded to.
    """

    images: dict[str, np.ndarray]

    def read(self, run: Run, number: int) -> None:
        """Decode a sample's pictures into its row; raises DamagedSampleError."""
        for member, images in self.images.items():
            decode(run.payload(number, MEMBERS.index(member)), images[run.at + number], member)


def _show_valid_rows(columns: Sequence[np.ndarray], valid: np.ndarray) -> None:
    """Fill rows that are not valid with those of valid rows: black squares would move a BatchNorm's statistics."""
    rest = np.flatnonzero(~valid)
    shown = np.resize(np.flatnonzero(valid), len(rest)) if valid.any() else None
    for column in columns:
        if shown is not None:
            column[rest] = column[shown]
        elif column.dtype == np.uint8:
            column[rest] = 0


def _remove_rows(pairs: CountPairs, lost: list[int]) -> CountPairs:
    """Drop the pairs of some rows."""
    kept = ~torch.isin(pairs.row, torch.tensor(lost))
    length = pairs.length.clone()
    length[lost] = 0
    return CountPairs(length, pairs.gene[kept], pairs.count[kept])
