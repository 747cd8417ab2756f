"""Reads the neighbourhood of one spot from its sample. No torch: `plan` reads it, too."""

from __future__ import annotations

import json

import numpy as np

from stalign_pl.batch.damage import DamagedSampleError

_decode_json = json.JSONDecoder().raw_decode
"""json.loads without detecting the encoding and without checking what follows the value."""


def parse_neighbourhood(
    neighbors: memoryview, meta: memoryview, spots: int
) -> tuple[np.ndarray, list[int], list[list[float]]]:
    """Read the small members of a sample.

    Args:
        neighbors: bytes of the sample's .npy file of neighbours.
        meta: bytes of the sample's JSON file.
        spots: number of spots of the slide.

    Returns:
        Neighbours, int32 [n], in order of distance; cumulative ring ends; niche boxes by number of members.

    Raises:
        DamagedSampleError: they cannot be read, or name spots that the slide does not have.
    """
    try:
        content = _decode_json(str(meta, "utf-8"))[0]
        rings, boxes = content["rings"], content["boxes"]
        near = np.frombuffer(_npy_payload(neighbors), np.int32)
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedSampleError(f"its metadata or neighbours cannot be read: {error!r}") from error
    if len(near) and int(near.view(np.uint32).max()) >= spots:  # a negative one is then beyond all others
        raise DamagedSampleError(f"a neighbour is not one of the slide's {spots} spots")
    if not rings or rings[-1] > len(near):
        raise DamagedSampleError(f"its rings end at {rings}, it has {len(near)} neighbours")
    return near, rings, boxes


def _npy_payload(data: memoryview) -> memoryview:
    """The bytes of the values of a small .npy file (version 1.0), without the overhead of np.load."""
    return data[10 + int.from_bytes(data[8:10], "little") :]
