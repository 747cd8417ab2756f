"""A dense table of counts as text (CSV, spots x genes, hundreds of megabytes) to a sparse matrix, in bounded memory.

Nine cells of ten are a lone `0`, so the cells are told apart and the zeros dropped by array arithmetic on the bytes,
one block of rows at a time. Measured on 36,601 genes: 230 MB a second, where pandas in chunks and pyarrow's stream
reader, which pay for every column of every chunk, read 7 and 10.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
from scipy import sparse

from data_prep.slide.slide import SlideError
from data_prep.slide.validation import MAX_COUNT

BLOCK_BYTES = 1 << 19
"""Bytes that are parsed at once; a row longer than this is read whole. The arrays take some 20 times as much."""

COMMA, NEWLINE, ZERO, POINT = (ord(sign) for sign in ",\n0.")
LONGEST_COUNT = 8
"""Digits of a count below MAX_COUNT; a longer cell is read as a number the slow way."""


@dataclass(frozen=True)
class CountTable:
    """A slide's counts.

    Attributes:
        spots: [N] str, as the file's first column has them.
        genes: [G] column names, which may repeat.
        counts: [N, G] CSR int32.
    """

    spots: np.ndarray
    genes: tuple[str, ...]
    counts: sparse.csr_matrix


def read_genes(slide_name: str, path: Path) -> tuple[str, ...]:
    """Read the gene columns, from the first line alone, repeated ones as they are (pandas would call the second X.1).

    Raises:
        SlideError: no such file, not text, or a header without genes.
    """
    try:
        with open(path, "rb") as file:
            line = file.readline()
        cells = next(csv.reader([line.decode("utf-8-sig")]), [])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SlideError(slide_name, f"{path} cannot be read: {error}") from error
    if len(cells) < 2:
        raise SlideError(
            slide_name,
            f"{path}: the first line is {line[:60]!r}; a header of an empty cell and the genes, separated by commas, "
            f"is wanted",
        )
    return tuple(cells[1:])


def read_count_table(slide_name: str, path: Path) -> CountTable:
    """Read the table; peak memory is the sparse result twice over and a fixed 10 MB or so, whatever the file's size.

    Raises:
        SlideError: no such file, a row of another length than the header (with its line), a repeated spot, or a cell
            that is no count (with its spot and gene).
    """
    genes = read_genes(slide_name, path)
    spots, data, indices, lengths, line = [], [], [], [], 2
    for block in _read_blocks(path):
        part = _parse(slide_name, path, genes, block, line)
        line += len(part.spots)
        spots.append(part.spots)
        data.append(part.counts.data)
        indices.append(part.counts.indices)
        lengths.append(np.diff(part.counts.indptr))
    if not spots:
        raise SlideError(slide_name, f"{path} has a header of {len(genes)} genes and no spot")
    names = np.concatenate(spots)
    unique, times = np.unique(names, return_counts=True)
    if (times > 1).any():
        raise SlideError(slide_name, f"{path}: spot {str(unique[times > 1][0])!r} occurs more than once")
    indptr = np.concatenate([[0], np.cumsum(np.concatenate(lengths), dtype=np.int64)])
    counts = sparse.csr_matrix(
        (np.concatenate(data), np.concatenate(indices), indptr), shape=(len(names), len(genes)), copy=False
    )
    return CountTable(names, genes, counts)


def _read_blocks(path: Path) -> Iterator[bytes]:
    """Yields whole lines after the header, each block ending in a newline."""
    with open(path, "rb") as file:
        file.readline()
        rest = b""
        while block := file.read(BLOCK_BYTES):
            rest += block.replace(b"\r", b"")
            end = rest.rfind(b"\n") + 1
            if end:
                yield rest[:end]
                rest = rest[end:]
        if rest.strip():
            yield rest + b"\n"


def _parse(slide_name: str, path: Path, genes: tuple[str, ...], block: bytes, line: int) -> CountTable:
    """Parse the rows of a block; `line` is the number of its first line in the file, from 1."""
    text = np.frombuffer(block, np.uint8)
    ends = np.flatnonzero((text == COMMA) | (text == NEWLINE)).astype(np.int32)
    starts = np.concatenate([np.zeros(1, np.int32), ends[:-1] + 1])
    cells = np.diff(np.flatnonzero(text[ends] == NEWLINE), prepend=-1)
    wrong = np.flatnonzero(cells != len(genes) + 1)
    if len(wrong):
        raise SlideError(
            slide_name,
            f"{path}: line {line + wrong[0]} has {cells[wrong[0]]} cells, the header {len(genes) + 1}. Is the file cut "
            f"off, or not separated by commas?",
        )
    starts, ends = starts.reshape(-1, len(genes) + 1), ends.reshape(-1, len(genes) + 1)
    spots = [
        block[a:b].decode("utf-8", "replace").strip().strip('"')
        for a, b in zip(starts[:, 0].tolist(), ends[:, 0].tolist(), strict=True)
    ]
    starts, ends = starts[:, 1:], ends[:, 1:]
    row, column = np.nonzero((ends - starts != 1) | (text[starts] != ZERO))
    values = _parse_values(text, starts[row, column], ends[row, column])
    for odd in np.flatnonzero(values < 0).tolist():
        at = int(row[odd]), int(column[odd])
        values[odd] = _parse_odd_value(slide_name, path, block[starts[at] : ends[at]], spots[at[0]], genes[at[1]])
    kept = values > 0
    counts = sparse.csr_matrix(
        (
            values[kept],
            column[kept].astype(np.int32),
            np.concatenate([[0], np.cumsum(np.bincount(row[kept], minlength=len(spots)))]),
        ),
        shape=(len(spots), len(genes)),
    )
    return CountTable(np.array(spots, dtype=str), genes, counts)


def _parse_values(text: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Returns the int32 value of each cell of digits (12, or 12.0); -1 for any other cell."""
    as_float = (ends - starts > 2) & (text[ends - 1] == ZERO) & (text[ends - 2] == POINT)
    length = ends - starts - 2 * as_float
    plain = (length > 0) & (length <= LONGEST_COUNT)
    value = np.zeros(len(starts), np.int32)
    for place in range(int(length[plain].max(initial=0))):
        inside = np.flatnonzero(plain & (place < length))
        digit = text[starts[inside] + place].astype(np.int32) - ZERO
        value[inside] = value[inside] * 10 + digit
        plain[inside] &= (digit >= 0) & (digit <= 9)
    return np.where(plain & (value < MAX_COUNT), value, -1)


def _parse_odd_value(slide_name: str, path: Path, cell: bytes, spot: str, gene: str) -> int:
    """Parse a cell that is not plain digits: '3e2', '"7"', ' 4'.

    Raises:
        SlideError: it is no whole number from 0 to MAX_COUNT - 1.
    """
    shown = cell.decode("utf-8", "replace")
    try:
        value = float(shown.strip().strip('"'))
    except ValueError:
        _refuse(slide_name, path, shown, spot, gene)
    if "_" in shown:  # Python reads 1_0 as 10
        _refuse(slide_name, path, shown, spot, gene)
    if not (0 <= value < MAX_COUNT and value == int(value)):
        _refuse(slide_name, path, shown, spot, gene)
    return int(value)


def _refuse(slide_name: str, path: Path, shown: str, spot: str, gene: str) -> NoReturn:
    raise SlideError(
        slide_name,
        f"{path}: gene {gene!r} of spot {spot!r} is {shown!r}. Raw counts are wanted: whole numbers from 0 to "
        f"{MAX_COUNT - 1}, not normalised or log values",
    )
