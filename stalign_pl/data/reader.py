"""Rows of a plan -> a SpotBatch: bytes read in runs, images decoded by a thread pool, niches gathered by reference."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import simplejpeg
import torch
from PIL import Image, UnidentifiedImageError

from stalign_pl.data.batch import CountPairs, SpotBatch
from stalign_pl.data.niche import NicheConfig
from stalign_pl.data.shards import SlideShard, TarBytes
from stalign_pl.errors import ShardError

Draws = Callable[[int, np.ndarray, np.ndarray], np.ndarray]
"""(epoch, slide [B], spot [B]) -> float32 [B, n], the random numbers of each row."""


def no_draws(epoch: int, slide: np.ndarray, spot: np.ndarray) -> np.ndarray:
    return np.zeros((len(slide), 0), np.float32)


def decode(data: memoryview, out: np.ndarray, where: str) -> None:
    """Decode a PNG or JPEG into the upper left corner of `out` [side, side, 3] uint8."""
    try:
        if bytes(data[:2]) == b"\xff\xd8":
            picture = simplejpeg.decode_jpeg(data, colorspace="RGB")
        else:
            picture = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    except (ValueError, OSError, UnidentifiedImageError) as error:
        raise ShardError(f"{where}: the image cannot be decoded: {error}") from error
    height, width = picture.shape[:2]
    if height > out.shape[0] or width > out.shape[1]:
        raise ShardError(f"{where}: the image is {width} x {height} px, larger than the manifest says")
    out[:height, :width] = picture


@dataclass
class _Row:
    """One valid row on its way into a batch."""

    at: int
    slide: SlideShard
    spot: int
    sample: dict[str, memoryview]


class BatchReader:
    """Reads rows of a plan from a shard set.

    Args:
        slides: slide number -> slide, all that a plan may name.
        niche: which neighbours make the niche.
        draws: the rows' random numbers.
        threads: decoding threads.
    """

    def __init__(
        self, slides: dict[int, SlideShard], niche: NicheConfig, draws: Draws = no_draws, threads: int = 2
    ) -> None:
        self.slides, self.niche, self.draws = slides, niche, draws
        records = [slide.record for slide in slides.values()]
        self.spot_side = max(record.spot_px for record in records)
        self.niche_side = max(record.niche_px for record in records)
        self.excluded_width = niche.excluded_width([record.ring_members for record in records])
        self._tars = TarBytes()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")

    def close(self) -> None:
        self._pool.shutdown()
        self._tars.close()

    def read(self, slide: np.ndarray, rank: np.ndarray, epoch: int) -> SpotBatch:
        """Read B rows: slide numbers [B] and places in the tar order [B], -1 in padding.

        Raises:
            ShardError: a truncated tar or an image that does not decode, by file and spot.
        """
        rows = self._fetch(slide, rank)
        batch = len(slide)
        spot_image = np.zeros((batch, self.spot_side, self.spot_side, 3), np.uint8)
        niche_image = np.zeros((batch, self.niche_side, self.niche_side, 3), np.uint8)
        jobs = [
            self._pool.submit(decode, row.sample[member], images[row.at], f"{row.slide.record.name} spot {row.spot}")
            for row in rows
            for member, images in (("spot", spot_image), ("niche", niche_image))
        ]
        spots = np.full(batch, -1, np.int64)
        table = np.zeros(batch, np.int64)
        spot_box, niche_box = np.zeros((batch, 4), np.float32), np.zeros((batch, 4), np.float32)
        spot_box[:, 2:], niche_box[:, 2:] = 1, 1
        spot_px, niche_px = np.ones(batch, np.float32), np.ones(batch, np.float32)
        excluded = np.full((batch, self.excluded_width), -1, np.int32)
        niches: list[np.ndarray] = []
        for row in rows:
            record = row.slide.record
            neighbors = np.frombuffer(_npy_payload(row.sample["neighbors"]), np.int32)
            meta = json.loads(bytes(row.sample["meta"]))
            members = self.niche.members(neighbors, meta["rings"])
            away = self.niche.excluded(neighbors, meta["rings"])
            spots[row.at], table[row.at] = row.spot, row.slide.table
            spot_px[row.at], niche_px[row.at] = record.spot_px, record.niche_px
            spot_box[row.at] = 0, 0, record.spot_px, record.spot_px
            boxes = meta["boxes"]
            whole = self.niche.image == "view"
            niche_box[row.at] = (
                (0, 0, record.niche_px, record.niche_px) if whole else boxes[min(len(members), len(boxes) - 1)]
            )
            excluded[row.at, : len(away)] = away
            niches.append(members if self.niche.leave_target_out else np.append(members, row.spot))
        valid = spots >= 0
        draws = self.draws(epoch, np.where(valid, slide, 0), np.where(valid, spots, 0))
        spot_counts = _pairs([(row.at, row.slide, np.array([row.spot])) for row in rows])
        niche_counts = _pairs([(row.at, row.slide, members) for row, members in zip(rows, niches, strict=True)])
        for job in jobs:
            job.result()
        if valid.any():  # padding shows what valid rows show: black squares would move a BatchNorm's statistics
            shown = np.resize(np.flatnonzero(valid), int((~valid).sum()))
            for column in (spot_image, niche_image, spot_box, niche_box, spot_px, niche_px, table):
                column[~valid] = column[shown]
        return SpotBatch(
            slide=torch.from_numpy(np.where(valid, slide, -1).astype(np.int64)),
            spot=torch.from_numpy(spots),
            table=torch.from_numpy(table),
            valid=torch.from_numpy(valid),
            spot_image=torch.from_numpy(spot_image),
            spot_box=torch.from_numpy(spot_box),
            spot_px=torch.from_numpy(spot_px),
            spot_counts=spot_counts,
            niche_image=torch.from_numpy(niche_image),
            niche_box=torch.from_numpy(niche_box),
            niche_px=torch.from_numpy(niche_px),
            niche_counts=niche_counts,
            excluded=torch.from_numpy(excluded),
            draws=torch.from_numpy(draws),
        )

    def _fetch(self, slide: np.ndarray, rank: np.ndarray) -> list[_Row]:
        """Read the rows' bytes; rows of one slide that lie side by side in its tar come in one read."""
        rows: list[_Row] = []
        starts = np.flatnonzero(np.diff(slide, prepend=-2))
        for start, stop in zip(starts, np.append(starts[1:], len(slide)), strict=True):
            if slide[start] < 0:
                continue
            shard = self.slides[int(slide[start])]
            places = rank[start:stop]
            samples = shard.samples(places, self._tars)
            spots = shard.spot_of_rank[places]
            rows += [
                _Row(start + at, shard, int(spot), sample)
                for at, (spot, sample) in enumerate(zip(spots, samples, strict=True))
            ]
        return rows


def _npy_payload(data: memoryview) -> memoryview:
    """The values of a small little-endian .npy (version 1.0), without np.load's cost a call."""
    return data[10 + int.from_bytes(data[8:10], "little") :]


def _pairs(rows: list[tuple[int, SlideShard, np.ndarray]]) -> CountPairs:
    """Copy the members' pairs one after another; the device adds them up. Whole counts below 2^24 are exact in fp32."""
    parts, owner = [], []
    for at, shard, spots in rows:
        for part in shard.pairs(spots):
            parts.append(part)
            owner.append(at)
    lengths = [part.shape[1] for part in parts]
    joined = np.concatenate(parts, axis=1) if parts else np.zeros((2, 0), np.uint16)
    row = np.repeat(np.array(owner, np.int32), lengths)
    gene, count = joined.astype(np.int32)
    return CountPairs(torch.from_numpy(row), torch.from_numpy(gene), torch.from_numpy(count))
