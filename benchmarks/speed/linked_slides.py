"""Many slides out of few: records whose files are links to those of slides that are there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from stalign_pl.files import write_json
from stalign_pl.shard_format import SlideRecord


def link(folder: Path, record: SlideRecord, number: int) -> SlideRecord:
    """The record of slide `number`, whose files are links to the built ones."""
    stem = f"slide{number:03d}"

    def renamed(name: str) -> str:
        return name if name == record.panel else stem + name.removeprefix(record.stem)

    for name in record.files:
        if name != record.panel:
            (folder / renamed(name)).symlink_to(name)
    files = {renamed(name): described for name, described in record.files.items()}
    tars = tuple(renamed(name) for name in record.tars)
    linked = replace(record, number=number, name=stem, stem=stem, files=files, tars=tars)
    write_json(folder / f"{stem}.json", linked.to_json())
    return linked
