"""Names, keys and columns of a slide's files. The package says what stands in each."""

from __future__ import annotations

import hashlib
import re

MEMBERS = ("spot", "niche", "genes", "neighbors", "meta")
"""The members of a sample, in the order in which they stand in the tar (so that one read fetches a run of samples)."""

INDEX = (
    *("counts_start", "counts_stop", "part", "rank", "crc32"),
    *(f"{member}_{what}" for member in MEMBERS for what in ("offset", "length")),
)
"""Columns of `<stem>.index.npy`.

counts_*: the spot's columns of counts.npy. part: number of the tar. rank: the sample's place in the tars' seeded random
order, counted over all parts. crc32: of the members' payloads, one after another. <member>_offset, _length: the
payload's bytes in its tar.
"""

INDEX_COLUMN = {name: column for column, name in enumerate(INDEX)}

MAX_SIDE_PX = 224
"""Images are stored at native resolution, never enlarged, at most this many pixels a side."""

LOSSLESS_BELOW_PX = 64
"""Crops with a side below this are PNG, others JPEG 4:4:4."""

BOX_MEMBERS = 18
"""meta.json holds the niche's bounding box for K = 0 .. this many members (fewer where the spot has fewer)."""


def make_sample_key(slide_number: int, spot: int) -> str:
    """Return the WebDataset key. No dot, no free text: WebDataset cuts a key at its first dot and merges silently."""
    return f"{slide_number:05d}_{spot:06d}"


def make_file_stem(slide_name: str) -> str:
    """Make a file name for a slide of any name: unsafe characters become `_`, and then a hash keeps two names apart."""
    safe = re.sub(r"[^A-Za-z0-9_-]+", "_", slide_name).strip("_") or "slide"
    if safe == slide_name:
        return safe
    return f"{safe[:80]}-{hashlib.sha256(slide_name.encode()).hexdigest()[:8]}"


def make_tar_name(stem: str, part: int, parts: int) -> str:
    """Return `<stem>.tar`, or `<stem>-part000.tar`, ... where a slide is large enough to be cut."""
    return f"{stem}.tar" if parts == 1 else f"{stem}-part{part:03d}.tar"


DUPLICATES = "duplicates.csv"
"""In a shard set that keeps duplicates: columns slide, duplicate_of."""
