"""What a sample says of its neighbourhood: neighbours, rings, niche boxes. No torch."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np

from stalign_pl.data.damage import DamagedSample

_decode_json = json.JSONDecoder().raw_decode
"""json.loads without its look at the encoding and for what follows the value."""


def small_members(sample: Mapping[str, memoryview], spots: int) -> tuple[np.ndarray, list[int], list[list[float]]]:
    """Neighbours int32 [n] in order of distance, cumulative ring ends, niche boxes by number of members.

    Args:
        sample: its members' payloads, `neighbors` and `meta` at least.
        spots: of the slide.

    Raises:
        DamagedSample: they cannot be read, or name spots that the slide does not have.
    """
    try:
        meta = _decode_json(str(sample["meta"], "utf-8"))[0]
        neighbors = np.frombuffer(_npy_payload(sample["neighbors"]), np.int32)
    except ValueError as error:
        raise DamagedSample(f"its metadata or neighbours cannot be read: {error}") from error
    if len(neighbors) and not 0 <= int(neighbors.min()) <= int(neighbors.max()) < spots:
        raise DamagedSample(f"a neighbour is not one of the slide's {spots} spots")
    return neighbors, meta["rings"], meta["boxes"]


def _npy_payload(data: memoryview) -> memoryview:
    """The values of a small little-endian .npy (version 1.0), without np.load's cost a call."""
    return data[10 + int.from_bytes(data[8:10], "little") :]
