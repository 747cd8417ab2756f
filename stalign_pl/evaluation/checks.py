"""What evaluation refuses at its boundary, and the one error that it raises."""

from __future__ import annotations

import numpy as np

from stalign_pl.errors import STAlignError


class EvaluationError(STAlignError):
    """Arrays that cannot be evaluated. The message names the slide where one is known, the array, and what is wrong."""

    def __init__(self, what: str, slide: str = "") -> None:
        super().__init__(f"slide {slide!r}: {what}" if slide else what)


def check_finite(matrix: np.ndarray, name: str, slide: str = "", columns: int | None = None) -> np.ndarray:
    """Return `matrix` [N, D] as an array, after checking it.

    Args:
        matrix: the array as handed in.
        name: what the message calls it.
        slide: the slide it belongs to, for the message.
        columns: D, where the caller knows it.

    Raises:
        EvaluationError: not two-dimensional, empty, another number of columns, or NaN or infinity in it.
    """
    matrix = np.asarray(matrix)
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise EvaluationError(f"{name} has shape {matrix.shape}; it should be [spots, columns] and not empty", slide)
    if columns is not None and matrix.shape[1] != columns:
        raise EvaluationError(f"{name} has {matrix.shape[1]} columns, {columns} were expected", slide)
    damaged = np.flatnonzero(~np.isfinite(matrix).all(axis=1))
    if len(damaged):
        raise EvaluationError(
            f"{name} holds NaN or infinity in {len(damaged)} of {len(matrix)} rows, the first is row {damaged[0]}",
            slide,
        )
    return matrix


def check_same_rows(slide: str = "", **arrays: np.ndarray) -> None:
    """Check that all arrays have one row a spot.

    Raises:
        EvaluationError: the lengths differ; all of them are named.
    """
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise EvaluationError(f"one row a spot is expected in each array, but the lengths are: {listed}", slide)
