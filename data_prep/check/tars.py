"""Checks of a slide's tars by their headers and by the index's offsets; plain_format.py reads them whole."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from data_prep.check.payloads import UNREADABLE, find_wrong_neighbors
from data_prep.check.problem import Problem
from stalign_pl.shard_format import INDEX_COLUMN, MEMBERS, SlideRecord, make_sample_key


def map_suffixes(record: SlideRecord) -> dict[str, str]:
    """Map each member, in the order of MEMBERS, to its name in the tar after the sample's key and a dot."""
    images = {"spot": f"spot.{record.spot_format}", "niche": f"niche.{record.niche_format}", "meta": "meta.json"}
    return {member: images.get(member, f"{member}.npy") for member in MEMBERS}


def check_headers(folder: Path, record: SlideRecord, index: np.ndarray) -> Iterator[Problem]:
    """Check that each tar holds, in order of rank, the index's samples at the index's bytes, and ends well."""
    order = np.argsort(index[:, INDEX_COLUMN["rank"]])
    for part, name in enumerate(record.tars):
        spots = order[index[order, INDEX_COLUMN["part"]] == part]
        suffixes = map_suffixes(record)
        wanted = [(spot, member) for spot in spots.tolist() for member in MEMBERS]
        found = 0
        try:
            with tarfile.open(folder / name, "r:") as tar:
                for info in tar:
                    if found < len(wanted):
                        spot, member = wanted[found]
                        header = f"{make_sample_key(record.number, spot)}.{suffixes[member]}"
                        yield from _check_header(name, info, header, spot, member, index)
                    found += 1
        except (tarfile.TarError, OSError) as error:
            spot = wanted[min(found, len(wanted) - 1)][0]
            yield Problem(name, f"is damaged or cut off after {found} of {len(wanted)} members: {error}", spot)
            continue
        if found != len(wanted):
            what = f"holds {found} members, {len(wanted)} are wanted"
            yield Problem(name, what, wanted[found][0] if found < len(wanted) else None)


def _check_header(
    name: str, info: tarfile.TarInfo, wanted: str, spot: int, member: str, index: np.ndarray
) -> Iterator[Problem]:
    if info.name != wanted:
        yield Problem(name, f"has {info.name!r} where {wanted!r} should be", spot)
        return
    place = tuple(int(index[spot, INDEX_COLUMN[f"{member}_{what}"]]) for what in ("offset", "length"))
    if place != (info.offset_data, info.size):
        yield Problem(
            name, f"{member} lies at {(info.offset_data, info.size)} (offset, length), the index says {place}", spot
        )


def check_neighbors(folder: Path, record: SlideRecord, index: np.ndarray) -> Iterator[Problem]:
    """Check that neighbours, read at the index's offsets, are other spots of the slide."""
    offset, length = INDEX_COLUMN["neighbors_offset"], INDEX_COLUMN["neighbors_length"]
    for part, name in enumerate(record.tars):
        with open(folder / name, "rb") as file:
            for spot in np.flatnonzero(index[:, INDEX_COLUMN["part"]] == part):
                file.seek(int(index[spot, offset]))
                payload = file.read(int(index[spot, length]))
                try:
                    whats = list(find_wrong_neighbors(payload, int(spot), record))
                except UNREADABLE as error:
                    whats = [f"a member cannot be read: {error}"]
                for what in whats:
                    yield Problem(name, what, int(spot))
