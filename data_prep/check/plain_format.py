"""A slide's tars as any WebDataset user reads them: keys, members, number of samples and payloads against the index."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np

from data_prep.check.payloads import SlideArrays, check_payloads
from data_prep.check.problem import Problem
from data_prep.check.tars import map_suffixes
from stalign_pl.shard_format import INDEX_COLUMN, SlideRecord, make_sample_key

ABOUT_A_SAMPLE = ("__key__", "__url__", "__local_path__")
"""Entries that WebDataset adds to a sample's members."""


class TarSamples:
    """One pass through a tar by WebDataset, in the tar's order, without decoding any member.

    Attributes:
        names: how often the tar holds a member of a name; complete when the pass has ended.
        errors: what WebDataset met in the pass. It reads on where it can, as after a repeated name.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.names: Counter[str] = Counter()
        self.errors: list[Exception] = []

    def __iter__(self) -> Iterator[tuple[str, dict[str, bytes]]]:
        """Yield every sample's key and its payloads by member name (`genes.npy`)."""
        from webdataset import WebDataset  # pyright: ignore[reportAttributeAccessIssue] # the stub leaves it out

        # By its descriptor: WebDataset takes a path for a URL, and so a `#` or `?` for the path's end.
        with open(self.path, "rb") as file:
            samples = WebDataset(
                [f"/dev/fd/{file.fileno()}"],
                handler=self._keep_error,
                shardshuffle=False,
                nodesplitter=None,  # every process reads the whole tar, also under srun or torchrun
                workersplitter=None,
                select_files=self._count_name,
                empty_check=False,
            )
            for sample in samples:
                members = {name: payload for name, payload in sample.items() if name not in ABOUT_A_SAMPLE}
                yield sample["__key__"], members

    def find_repeated_keys(self) -> set[str]:
        """Find the keys of samples that hold a member name twice."""
        return {name.partition(".")[0] for name, times in self.names.items() if times > 1}

    def find_reading_errors(self) -> list[Exception]:
        """Find the errors without WebDataset's refusals (ValueError) of a repeated name."""
        return [error for error in self.errors if not (isinstance(error, ValueError) and self.find_repeated_keys())]

    def _count_name(self, name: str) -> bool:
        self.names[name] += 1
        return True

    def _keep_error(self, error: Exception) -> bool:
        self.errors.append(error)
        return True


def check_plain_format(folder: Path, record: SlideRecord, arrays: SlideArrays) -> Iterator[Problem]:
    """Read every tar through WebDataset and compare it with the index, down to the payloads of every sample.

    Where a tar cannot be read to its end, the samples that are missing after that place are not listed.
    """
    index = arrays.index
    by_rank = np.argsort(index[:, INDEX_COLUMN["rank"]])
    for part, name in enumerate(record.tars):
        spots = by_rank[index[by_rank, INDEX_COLUMN["part"]] == part]
        wanted = {make_sample_key(record.number, spot): spot for spot in spots.tolist()}
        yield from _check_part(folder / name, wanted, record, arrays)


def _check_part(path: Path, wanted: dict[str, int], record: SlideRecord, arrays: SlideArrays) -> Iterator[Problem]:
    """Compare one tar with its samples.

    Args:
        path: the tar.
        wanted: key -> spot of the samples that the tar should hold, in their order.
        record: of the slide.
        arrays: of the slide.
    """
    samples, keys, suffixes = TarSamples(path), Counter(), map_suffixes(record)
    try:
        for key, members in samples:
            keys[key] += 1
            if keys[key] > 1:
                continue
            difference = _compare_members(key, members, suffixes.values())
            if key not in wanted:
                yield Problem(path.name, f"holds a sample {key!r}, which the index does not have")
            elif difference:
                yield Problem(path.name, difference, wanted[key])
            else:
                payloads = {member: members[name] for member, name in suffixes.items()}
                for what in check_payloads(payloads, wanted[key], record, arrays):
                    yield Problem(path.name, what, wanted[key])
    except (OSError, ValueError) as error:  # the file, or WebDataset's own cache folder (WDS_CACHE), cannot be opened
        samples.errors.append(error)
    yield from _compare_keys(path.name, samples, keys, wanted)


def _compare_members(key: str, members: Collection[str], wanted: Collection[str]) -> str:
    """Say which members a sample lacks or has besides those wanted; '' where it has these."""
    absent = [name for name in wanted if name not in members]
    extra = [name for name in members if name not in wanted]
    differences = (("lacks", absent), ("has also", extra))
    words = " and ".join(f"{what} {', '.join(names)}" for what, names in differences if names)
    return f"sample {key!r} {words}" if words else ""


def _compare_keys(tar: str, samples: TarSamples, keys: Counter[str], wanted: dict[str, int]) -> Iterator[Problem]:
    twice = {key for key, times in keys.items() if times > 1} | samples.find_repeated_keys()
    for key in sorted(twice):
        yield Problem(tar, f"holds the sample {key!r}, or a member of it, more than once", wanted.get(key))
    missing = [key for key in wanted if key not in keys]
    errors = samples.find_reading_errors()
    if errors:
        what = f"WebDataset stops after {keys.total()} of {len(wanted)} samples: {_describe_error(errors[0])}"
        yield Problem(tar, what, wanted[missing[0]] if missing else None)
        return
    for key in missing:
        yield Problem(tar, f"lacks the sample {key!r} of the index", wanted[key])
    if keys.total() != len(wanted):
        yield Problem(tar, f"gives WebDataset {keys.total()} samples, the index has {len(wanted)}")


def _describe_error(error: Exception) -> str:
    """Describe an error by its type and first line, without the stream that WebDataset names after it."""
    first = error.args[0] if error.args else ""
    text = str(getattr(error, "strerror", None) or first)
    return f"{type(error).__name__}: {text.partition(' @ <')[0].partition(chr(10))[0]}"
