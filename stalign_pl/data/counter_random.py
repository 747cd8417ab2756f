"""Random numbers as a pure function of (seed, epoch, slide, spot, stream).

Augmentation drawn this way is the same on any number of processes and after any resume: nothing has to be saved.
The mixing function is SplitMix64's finaliser (Steele, Lea & Flood 2014).
"""

from __future__ import annotations

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mix(value: np.ndarray) -> np.ndarray:
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


def uniform(seed: int, epoch: int, slide: np.ndarray, spot: np.ndarray, stream: int, draws: int) -> np.ndarray:
    """Uniform numbers in [0, 1), float32 [B, draws], one row a (slide [B], spot [B])."""
    with np.errstate(over="ignore"):  # arithmetic modulo 2^64 is the point
        state = np.full(len(slide), seed % 2**64, dtype=np.uint64)
        for part in (epoch, stream):
            state = _mix(state + _GOLDEN * np.uint64(part + 1))
        for column in (slide, spot):
            state = _mix(state + _GOLDEN * (np.asarray(column).astype(np.uint64) + np.uint64(1)))
        counter = np.arange(1, draws + 1, dtype=np.uint64)
        bits = _mix(state[:, None] + _GOLDEN * counter)
    return ((bits >> np.uint64(40)).astype(np.float32)) * np.float32(2.0**-24)
