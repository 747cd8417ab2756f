"""Checks of one sample's payloads: what each member should hold."""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from stalign_pl.shard_format import BOX_MEMBERS, INDEX_COLUMN, MEMBERS, SlideRecord

UNREADABLE = (ValueError, LookupError, TypeError, EOFError, OSError)
"""What reading a damaged member raises."""


@dataclass(frozen=True)
class SlideArrays:
    """A slide's arrays, already checked.

    Attributes:
        index: int64 [N, len(INDEX)].
        pairs: uint16 or uint32 [2, nnz], gene index and count.
    """

    index: np.ndarray
    pairs: np.ndarray


def check_payloads(payloads: dict[str, bytes], spot: int, record: SlideRecord, arrays: SlideArrays) -> list[str]:
    """Say what is wrong with a sample: neighbours, checksum, images, genes and metadata; empty where nothing is.

    Args:
        payloads: member -> its bytes, for all of MEMBERS.
        spot: the sample's spot.
        record: of the slide.
        arrays: of the slide.
    """
    try:
        return [
            *find_wrong_neighbors(payloads["neighbors"], spot, record),
            *_find_wrong_bytes(payloads, spot, arrays),
            *_find_wrong_images(payloads, record),
            *_find_wrong_genes(payloads, spot, record, arrays),
            *_find_wrong_metadata(payloads, spot, record),
        ]
    except UNREADABLE as error:
        return [f"a member cannot be read: {error}"]


def find_wrong_neighbors(payload: bytes, spot: int, record: SlideRecord) -> Iterator[str]:
    """Yield what is wrong with neighbors.npy: its type, or a neighbour that is not another spot of the slide.

    Raises:
        ValueError: the payload is not an array.
    """
    neighbors = _read_array(payload)
    if neighbors.dtype != np.int32 or neighbors.ndim != 1:
        yield f"neighbors is {neighbors.dtype} {neighbors.shape}, int32 (members,) is wanted"
    elif len(neighbors) and (neighbors.min() < 0 or neighbors.max() >= record.spots):
        yield f"a neighbour is not one of the slide's {record.spots} spots"
    elif spot in neighbors or len(np.unique(neighbors)) != len(neighbors):
        yield "is its own neighbour, or has one twice"


def _read_array(payload: bytes) -> np.ndarray:
    return np.lib.format.read_array(io.BytesIO(payload), allow_pickle=False)


def _find_wrong_bytes(payloads: dict[str, bytes], spot: int, arrays: SlideArrays) -> Iterator[str]:
    if zlib.crc32(b"".join(payloads[member] for member in MEMBERS)) != arrays.index[spot, INDEX_COLUMN["crc32"]]:
        yield "its bytes do not have the checksum of the index"


def _find_wrong_images(payloads: dict[str, bytes], record: SlideRecord) -> Iterator[str]:
    from PIL import Image

    for member, side in (("spot", record.spot_px), ("niche", record.niche_px)):
        pixels = np.asarray(Image.open(io.BytesIO(payloads[member])))
        if pixels.shape != (side, side, 3):
            yield f"the {member} image is {pixels.shape}, {(side, side, 3)} is wanted"


def _find_wrong_genes(payloads: dict[str, bytes], spot: int, record: SlideRecord, arrays: SlideArrays) -> Iterator[str]:
    start, stop = (arrays.index[spot, INDEX_COLUMN[f"counts_{end}"]] for end in ("start", "stop"))
    if not np.array_equal(_read_array(payloads["genes"]), arrays.pairs[:, start:stop]):
        yield f"genes.npy differs from {record.counts}"


def _find_wrong_metadata(payloads: dict[str, bytes], spot: int, record: SlideRecord) -> Iterator[str]:
    meta = json.loads(payloads["meta"])
    if (meta["slide"], meta["spot"]) != (record.name, spot):
        yield f"meta.json is of slide {meta['slide']!r}, spot {meta['spot']}"
    members = len(_read_array(payloads["neighbors"]))
    if meta["rings"][-1] != members or sorted(meta["rings"]) != meta["rings"]:
        yield f"its rings {meta['rings']} do not end at its {members} neighbours"
    boxes = np.array(meta["boxes"])
    if boxes.shape != (min(BOX_MEMBERS, members) + 1, 4) or boxes.min() < 0 or boxes.max() > record.niche_px:
        yield f"its boxes have shape {boxes.shape} or leave the niche image"
