"""Writing samples to tars, byte for byte the same each time, and the index of where everything went."""

from __future__ import annotations

import hashlib
import io
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from data_prep.shards.samples import SlideSamples
from data_prep.shards.spool import spool_pictures
from stalign_pl.files import replace_file
from stalign_pl.shard_format import INDEX, INDEX_COLUMN, MEMBERS, make_sample_key, make_tar_name


def draw_order(spots: int, seed: int, slide_name: str) -> np.ndarray:
    """Draw int64 [N]: the spots in the random order of the tars; a function of (seed, name) alone."""
    words = np.frombuffer(hashlib.sha256(slide_name.encode()).digest()[:16], dtype="<u4")
    return np.random.default_rng([seed, *words.tolist()]).permutation(spots)


def write_tars(
    folder: Path,
    stem: str,
    slide_number: int,
    samples: SlideSamples,
    order: np.ndarray,
    part_spots: int,
    done: Callable[[int], None] | None = None,
) -> tuple[tuple[str, ...], np.ndarray]:
    """Write a slide's tars.

    Args:
        order: int [N], see `draw_order`.
        part_spots: spots a tar.
        done: called after each tar with the number of its spots.

    Returns:
        The tars' names, and the index, int64 [N, len(INDEX)], row = spot.
    """
    parts = -(-len(order) // part_spots)
    names = tuple(make_tar_name(stem, part, parts) for part in range(parts))
    index = np.zeros((len(order), len(INDEX)), np.int64)
    index[:, INDEX_COLUMN["counts_start"]] = samples.counts.indptr[:-1]
    index[:, INDEX_COLUMN["counts_stop"]] = samples.counts.indptr[1:]
    index[order, INDEX_COLUMN["rank"]] = np.arange(len(order))
    with spool_pictures(samples, folder) as pictures_of:
        for part, name in enumerate(names):
            spots = order[part * part_spots : (part + 1) * part_spots]
            index[spots, INDEX_COLUMN["part"]] = part
            with replace_file(folder / name) as path, tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
                for spot in spots.tolist():
                    picture, niche = pictures_of(spot)
                    payloads = {"spot": picture, "niche": niche, **samples.tables(spot)}
                    _add_sample(tar, make_sample_key(slide_number, spot), payloads, samples.suffixes, index[spot])
            if done is not None:
                done(len(spots))
    return names, index


def _add_sample(
    tar: tarfile.TarFile, key: str, payloads: dict[str, bytes], suffixes: dict[str, str], index_row: np.ndarray
) -> None:
    crc32 = 0
    for member in MEMBERS:
        payload = payloads[member]
        info = tarfile.TarInfo(f"{key}.{suffixes[member]}")  # mtime, uid and gid are 0, the owner's name is empty
        info.size = len(payload)
        index_row[INDEX_COLUMN[f"{member}_offset"]] = tar.offset + tarfile.BLOCKSIZE
        index_row[INDEX_COLUMN[f"{member}_length"]] = len(payload)
        tar.addfile(info, io.BytesIO(payload))
        crc32 = zlib.crc32(payload, crc32)
    index_row[INDEX_COLUMN["crc32"]] = crc32
