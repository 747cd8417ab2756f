"""Whether counts are raw, as a user gives them."""

from __future__ import annotations

import numpy as np

from stalign_pl.errors import ConfigError


def check_raw(counts: np.ndarray, name: str, whole: bool = True) -> None:
    """Look at counts, or the values of a sparse matrix.

    Args:
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
