"""Checks of a slide's tars: every header against the index; deep, every payload against what it should hold."""

from __future__ import annotations

import io
import json
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_prep.check.problem import Problem
from stalign_pl.shard_format import BOX_MEMBERS, INDEX_COLUMN, MEMBERS, SlideRecord, sample_key


@dataclass(frozen=True)
class SlideArrays:
    """A slide's arrays, already checked."""

    index: np.ndarray
    pairs: np.ndarray


def check_headers(folder: Path, record: SlideRecord, index: np.ndarray) -> Iterator[Problem]:
    """Each tar holds, in order of rank, the samples that the index says, at the bytes that it says, and ends well."""
    order = np.argsort(index[:, INDEX_COLUMN["rank"]])
    for part, name in enumerate(record.tars):
        spots = order[index[order, INDEX_COLUMN["part"]] == part]
        wanted = [(int(spot), member) for spot in spots for member in MEMBERS]
        found = 0
        try:
            with tarfile.open(folder / name, "r:") as tar:
                for info in tar:
                    if found < len(wanted):
                        yield from _header(record, name, info, *wanted[found], index)
                    found += 1
        except (tarfile.TarError, OSError) as error:
            spot = wanted[min(found, len(wanted) - 1)][0]
            yield Problem(name, f"is damaged or cut off after {found} of {len(wanted)} members: {error}", spot)
            continue
        if found != len(wanted):
            what = f"holds {found} members, {len(wanted)} are wanted"
            yield Problem(name, what, wanted[found][0] if found < len(wanted) else None)


def _header(
    record: SlideRecord, name: str, info: tarfile.TarInfo, spot: int, member: str, index: np.ndarray
) -> Iterator[Problem]:
    suffix = {"spot": f"spot.{record.spot_format}", "niche": f"niche.{record.niche_format}", "meta": "meta.json"}
    wanted = f"{sample_key(record.number, spot)}.{suffix.get(member, f'{member}.npy')}"
    if info.name != wanted:
        yield Problem(name, f"has {info.name!r} where {wanted!r} should be", spot)
        return
    place = tuple(int(index[spot, INDEX_COLUMN[f"{member}_{what}"]]) for what in ("offset", "length"))
    if place != (info.offset_data, info.size):
        yield Problem(
            name, f"{member} lies at {(info.offset_data, info.size)} (offset, length), the index says {place}", spot
        )


def check_samples(folder: Path, record: SlideRecord, arrays: SlideArrays, deep: bool) -> Iterator[Problem]:
    """Neighbours are other spots of the slide; deep: also checksum, images, genes and metadata of every sample."""
    index = arrays.index
    for part, name in enumerate(record.tars):
        with open(folder / name, "rb") as file:
            for spot in np.flatnonzero(index[:, INDEX_COLUMN["part"]] == part):
                payloads = {
                    member: _payload(file, index[spot], member) for member in (MEMBERS if deep else ("neighbors",))
                }
                try:
                    whats = list(_neighbors(payloads["neighbors"], int(spot), record))
                    if deep:
                        whats += _deep(payloads, int(spot), record, arrays)
                except (ValueError, KeyError, TypeError, EOFError, OSError) as error:
                    whats = [f"a member cannot be read: {error}"]
                for what in whats:
                    yield Problem(name, what, int(spot))


def _payload(file: io.BufferedReader, index_row: np.ndarray, member: str) -> bytes:
    file.seek(int(index_row[INDEX_COLUMN[f"{member}_offset"]]))
    return file.read(int(index_row[INDEX_COLUMN[f"{member}_length"]]))


def _array(payload: bytes) -> np.ndarray:
    return np.lib.format.read_array(io.BytesIO(payload), allow_pickle=False)


def _neighbors(payload: bytes, spot: int, record: SlideRecord) -> Iterator[str]:
    neighbors = _array(payload)
    if neighbors.dtype != np.int32 or neighbors.ndim != 1:
        yield f"neighbors is {neighbors.dtype} {neighbors.shape}, int32 (members,) is wanted"
    elif len(neighbors) and (neighbors.min() < 0 or neighbors.max() >= record.spots):
        yield f"a neighbour is not one of the slide's {record.spots} spots"
    elif spot in neighbors or len(np.unique(neighbors)) != len(neighbors):
        yield "is its own neighbour, or has one twice"


def _deep(payloads: dict[str, bytes], spot: int, record: SlideRecord, arrays: SlideArrays) -> Iterator[str]:
    from PIL import Image

    if zlib.crc32(b"".join(payloads[member] for member in MEMBERS)) != arrays.index[spot, INDEX_COLUMN["crc32"]]:
        yield "its bytes do not have the checksum of the index"
    for member, side in (("spot", record.spot_px), ("niche", record.niche_px)):
        pixels = np.asarray(Image.open(io.BytesIO(payloads[member])))
        if pixels.shape != (side, side, 3):
            yield f"the {member} image is {pixels.shape}, {(side, side, 3)} is wanted"
    start, stop = (arrays.index[spot, INDEX_COLUMN[f"counts_{end}"]] for end in ("start", "stop"))
    if not np.array_equal(_array(payloads["genes"]), arrays.pairs[:, start:stop]):
        yield f"genes.npy differs from {record.counts}"
    meta = json.loads(payloads["meta"])
    if (meta["slide"], meta["spot"]) != (record.name, spot):
        yield f"meta.json is of slide {meta['slide']!r}, spot {meta['spot']}"
    members = len(_array(payloads["neighbors"]))
    if meta["rings"][-1] != members or sorted(meta["rings"]) != meta["rings"]:
        yield f"its rings {meta['rings']} do not end at its {members} neighbours"
    boxes = np.array(meta["boxes"])
    if boxes.shape != (min(BOX_MEMBERS, members) + 1, 4) or boxes.min() < 0 or boxes.max() > record.niche_px:
        yield f"its boxes have shape {boxes.shape} or leave the niche image"
