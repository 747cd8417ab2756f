"""What a library says of a missing or damaged file, as an error that names slide and file."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from data_prep.slide.slide import SlideError

DAMAGED = (OSError, KeyError, ValueError, EOFError, OverflowError, RuntimeError, TypeError, zlib.error)
"""What h5py, pandas, scipy, json, gzip and zarr raise over a file that is not what it should be: zarr a TypeError over
metadata that are a list, its decoders a RuntimeError over a chunk that is cut off."""


@contextmanager
def explain_damage(slide_name: str, path: Path, what: str = "") -> Iterator[None]:
    """Raise SlideError in place of the errors of DAMAGED.

    Args:
        slide_name: for the message.
        path: the file, for the message.
        what: as which kind of file it was read, such as 'h5ad'.
    """
    try:
        yield
    except DAMAGED as error:
        raise SlideError(slide_name, f"{path} cannot be read{what and f' as {what}'}: {error}") from error


NO_LABEL = frozenset({"", "nan", "NaN", "NA", "N/A", "None", "<NA>"})
"""Texts that programs write for a missing value; such a spot is unlabelled, not of a class "nan"."""


def clean_labels(values: Iterable[object]) -> np.ndarray:
    """Returns labels as [N] str objects, '' where there is no label."""
    texts = ("" if value is None or value != value else str(value).strip() for value in values)  # NaN is not itself
    return np.array(["" if text in NO_LABEL else text for text in texts], dtype=object)
