"""Verify a shard set: each file against the manifest, the index and the format."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from data_prep.check.arrays import check_counts, check_index, check_panel
from data_prep.check.h5ad import check_h5ad
from data_prep.check.payloads import SlideArrays
from data_prep.check.plain_format import check_plain_format
from data_prep.check.problem import Problem, load_array
from data_prep.check.tars import check_headers, check_neighbors
from data_prep.shards.write import describe_file
from stalign_pl.errors import ShardError
from stalign_pl.shard_format import GeneTable, Manifest, SlideRecord


def check_set(folder: Path, deep: bool = False, quick: bool = False) -> Iterator[Problem]:
    """Find every problem of a set, slide by slide.

    Args:
        folder: the set.
        deep: also SHA-256 of every file; keys, members, checksum, images, genes and metadata of every sample, read
            through WebDataset; and the h5ad's counts.
        quick: only records, sizes, panels and indices: a corpus of 1.3 M spots in seconds.

    Raises:
        ShardError: no manifest, or one of another format version: then there is nothing to check by.
    """
    manifest = Manifest.read(folder)
    yield from _check_gene_table(folder, manifest)
    if not manifest.slides:
        yield Problem("manifest.json", "lists no slide")
    for what in ("number", "name", "stem"):
        for value, times in Counter(getattr(slide, what) for slide in manifest.slides).items():
            if times > 1:
                yield Problem("manifest.json", f"{times} slides have the {what} {value!r}")
    for record in manifest.slides:
        yield from check_slide(folder, record, manifest.genes, deep, quick)


def check_slide(
    folder: Path, record: SlideRecord, genes: int, deep: bool = False, quick: bool = False
) -> Iterator[Problem]:
    """Find every problem of one slide's files. What cannot be read is not looked into further."""
    yield from _check_record(folder, record)
    yield from _check_files(folder, record, deep)
    arrays = {name: load_array(folder / name) for name in (record.panel, record.counts, record.index)}
    yield from (array for array in arrays.values() if isinstance(array, Problem))
    loaded = {name: array for name, array in arrays.items() if not isinstance(array, Problem)}
    if len(loaded) < len(arrays):
        return
    panel, pairs, index = (loaded[name] for name in (record.panel, record.counts, record.index))
    problems = [*check_panel(record, panel, genes), *check_index(record, index, pairs.shape[-1])]
    yield from problems
    if problems or quick:
        return
    yield from check_counts(record, pairs, index, panel)
    if any(not (folder / name).is_file() for name in record.tars):
        return
    problems = list(check_headers(folder, record, index))
    yield from problems
    if deep:
        yield from check_plain_format(folder, record, SlideArrays(index, pairs))
    elif not problems:
        yield from check_neighbors(folder, record, index)
    if deep and (folder / record.h5ad).is_file():
        yield from check_h5ad(folder, record, index, pairs, panel)


def _check_gene_table(folder: Path, manifest: Manifest) -> Iterator[Problem]:
    try:
        table = GeneTable.read(folder / "genes.tsv")
    except (ShardError, OSError, ValueError) as error:
        yield Problem("genes.tsv", f"cannot be read: {error}")
        return
    if len(table) != manifest.genes or table.digest() != manifest.gene_table:
        yield Problem(
            "genes.tsv", f"is not the gene table of the manifest ({len(table)} genes, {manifest.genes} are wanted)"
        )


def _check_record(folder: Path, record: SlideRecord) -> Iterator[Problem]:
    path = folder / f"{record.stem}.json"
    try:
        same = json.loads(path.read_text()) == json.loads(json.dumps(record.to_json()))
    except (OSError, json.JSONDecodeError) as error:
        yield Problem(path.name, f"cannot be read: {error}")
        return
    if not same:
        yield Problem(path.name, "differs from the slide's record in manifest.json")


def _check_files(folder: Path, record: SlideRecord, deep: bool) -> Iterator[Problem]:
    unlisted = {*record.tars, record.h5ad, record.counts, record.index, record.panel} - record.files.keys()
    for name in sorted(unlisted):
        yield Problem("manifest.json", f"slide {record.name!r} lists no size and checksum of {name}")
    for name, wanted in record.files.items():
        path = folder / name
        if not path.is_file():
            yield Problem(name, "is missing")
        elif path.stat().st_size != wanted["bytes"]:
            yield Problem(name, f"has {path.stat().st_size} bytes, {wanted['bytes']} are wanted (cut off?)")
        elif deep and describe_file(path) != wanted:
            yield Problem(name, "has another SHA-256 than when it was built")
