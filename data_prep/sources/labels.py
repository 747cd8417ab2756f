"""When a label is none."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

NO_LABEL = frozenset({"", "nan", "NaN", "NA", "N/A", "None", "<NA>"})
"""Texts that programs write for a missing value; such a spot is unlabelled, not of a class "nan"."""


def clean_labels(values: Iterable[object]) -> np.ndarray:
    """[N] str objects, '' where there is no label."""
    texts = ("" if value is None or value != value else str(value).strip() for value in values)  # NaN is not itself
    return np.array(["" if text in NO_LABEL else text for text in texts], dtype=object)
