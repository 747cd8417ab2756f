"""Random numbers as a pure function of (seed, epoch, slide, spot, stream), by numpy.

Numbers drawn this way are the same on any number of processes and after any resume: nothing has to be saved. The hash
is SplitMix64's finaliser (Steele, Lea & Flood 2014), which gives unrelated 64-bit numbers for neighbouring ones. The
same numbers on a batch's device: `stalign_pl.batch.row_keys`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

GOLDEN, FIRST, SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
"""Its odd step from one number to the next, and the factors of its two rounds."""


def start_draws(seed: int, *parts: int) -> int:
    """Return where the draws of a seed begin: 0 to 2^64 - 1.

    Args:
        seed: any whole number.
        parts: epoch and stream, or the like; each 0 or more.
    """
    state = np.array([seed % 2**64], np.uint64)
    for part in parts:
        state = mix_bits(state + np.uint64(GOLDEN * (part + 1) % 2**64))
    return int(state[0])


def mix_bits(value: np.ndarray) -> np.ndarray:
    """Mix the bits of uint64 values of any shape; arithmetic is modulo 2^64."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(FIRST)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(SECOND)
    return value ^ (value >> np.uint64(31))


_STEP = np.uint64(GOLDEN)


def draw_uniform(seed: int, epoch: int, slide: np.ndarray, spot: np.ndarray, stream: int, draws: int) -> np.ndarray:
    """Draw uniform numbers in [0, 1).

    Args:
        seed: any whole number.
        epoch: 0 or more.
        slide: [B], numbers of slides.
        spot: [B], indices of spots.
        stream: a number for each use, so that two uses draw unrelated numbers.
        draws: numbers a row.

    Returns:
        float32 [B, draws], one row a (slide, spot).
    """
    state = np.full(len(slide), start_draws(seed, epoch, stream), dtype=np.uint64)
    for column in (slide, spot):
        state = mix_bits(state + _STEP * (np.asarray(column).astype(np.uint64) + np.uint64(1)))
    counter = np.arange(1, draws + 1, dtype=np.uint64)
    bits = mix_bits(state[:, None] + _STEP * counter)
    return ((bits >> np.uint64(40)).astype(np.float32)) * np.float32(2.0**-24)


Draws = Callable[[int, np.ndarray, np.ndarray], np.ndarray]
"""(epoch, slide [B], spot [B]) -> float32 [B, n], the random numbers of each row."""


def draw_nothing(epoch: int, slide: np.ndarray, spot: np.ndarray) -> np.ndarray:
    """Draw nothing, as `Draws`: float32 [B, 0]."""
    return np.zeros((len(slide), 0), np.float32)
