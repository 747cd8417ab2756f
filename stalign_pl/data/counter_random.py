"""Random numbers as a pure function of (seed, epoch, slide, spot, stream).

Augmentation drawn this way is the same on any number of processes and after any resume: nothing has to be saved.
"""

from __future__ import annotations

import numpy as np

from stalign_pl.splitmix import GOLDEN, mix, start

_STEP = np.uint64(GOLDEN)


def uniform(seed: int, epoch: int, slide: np.ndarray, spot: np.ndarray, stream: int, draws: int) -> np.ndarray:
    """Uniform numbers in [0, 1), float32 [B, draws], one row a (slide [B], spot [B])."""
    state = np.full(len(slide), start(seed, epoch, stream), dtype=np.uint64)
    for column in (slide, spot):
        state = mix(state + _STEP * (np.asarray(column).astype(np.uint64) + np.uint64(1)))
    counter = np.arange(1, draws + 1, dtype=np.uint64)
    bits = mix(state[:, None] + _STEP * counter)
    return ((bits >> np.uint64(40)).astype(np.float32)) * np.float32(2.0**-24)
