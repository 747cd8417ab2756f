"""Arrays as a user hands them over: of numbers, and counts that are raw."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeGuard

import numpy as np

from stalign_pl.errors import ConfigError

if TYPE_CHECKING:
    from scipy import sparse


class SparseMatrix(Protocol):
    """What is asked of a matrix of scipy's, of whatever format."""

    dtype: np.dtype
    shape: tuple[int, ...]

    def tocsr(self) -> sparse.csr_matrix: ...


def is_sparse(given: object) -> TypeGuard[SparseMatrix]:
    """Return whether it is a matrix of scipy's, without importing scipy."""
    return hasattr(given, "tocsr") and hasattr(given, "shape")


def check_numbers(given: object, name: str, shape: str, or_sparse: bool = False) -> None:
    """Look at what was given for an array.

    Args:
        given: what should be an array.
        name: of the field, for messages.
        shape: its axes, such as "N, M".
        or_sparse: scipy sparse matrices are arrays, too.

    Raises:
        ConfigError: no array of numbers, a masked one, or another number of axes.
    """
    array = given if isinstance(given, np.ndarray) or (or_sparse and is_sparse(given)) else None
    if isinstance(given, np.ma.MaskedArray):
        raise ConfigError(f"{name} is a masked array, and nothing here leaves out what is masked: give an array")
    if array is None or array.dtype.kind not in "uif" or len(array.shape) != len(shape.split(",")):
        what = f"a {type(given).__name__}" if array is None else f"{array.dtype} {list(array.shape)}"
        kinds = "a numpy array or scipy sparse matrix" if or_sparse else "a numpy array"
        raise ConfigError(f"{name} is {what}; {kinds} of numbers, [{shape}], is wanted")


def check_raw(counts: np.ndarray, name: str, whole: bool = True) -> None:
    """Look at counts, or the values of a sparse matrix.

    Args:
        counts: of numbers, any shape of one axis.
        name: of the field, for messages.
        whole: fractions are refused, too.

    Raises:
        ConfigError: counts that are negative, not finite or hold fractions, with the first such value.
    """
    wrong = counts[~(np.isfinite(counts) & (counts >= 0))]
    if len(wrong):
        raise ConfigError(
            f"{name} are negative or not finite, {wrong[0]:g} first; raw counts are wanted, not centred or scaled"
        )
    fractions = counts[counts != np.rint(counts)] if whole else counts[:0]
    if len(fractions):
        raise ConfigError(
            f"{name} hold fractions, {fractions[0]:g} first; raw counts are wanted, not normalised or log values"
        )
