"""Damage one sample of a shard set on purpose."""

from __future__ import annotations

from pathlib import Path

from stalign_pl.data.shards.shard_set import ShardSet
from stalign_pl.shard_format import INDEX_COLUMN


def overwrite(folder: Path, slide: int, spot: int, member: str, new: bytes, at: int = 0) -> None:
    """Put `new` into a member's payload, `at` bytes from its start."""
    shard = ShardSet(folder).slides[slide]
    offset, length = (int(shard.index[spot, INDEX_COLUMN[f"{member}_{what}"]]) for what in ("offset", "length"))
    assert at + len(new) <= length
    with shard.tar_of(spot).open("r+b") as file:
        file.seek(offset + at)
        assert file.read(len(new)) != new
        file.seek(offset + at)
        file.write(new)
