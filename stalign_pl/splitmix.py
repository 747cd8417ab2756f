"""SplitMix64's finaliser (Steele, Lea & Flood 2014): unrelated 64-bit hashes from neighbouring numbers, by numpy."""

from __future__ import annotations

import numpy as np

GOLDEN, FIRST, SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
"""Its odd step from one number to the next, and the factors of its two rounds."""


def start(seed: int, *parts: int) -> int:
    """Where the draws of a seed and of `parts` (epoch, stream; 0 or more) begin: 0 to 2^64 - 1."""
    state = np.array([seed % 2**64], np.uint64)
    for part in parts:
        state = mix(state + np.uint64(GOLDEN * (part + 1) % 2**64))
    return int(state[0])


def mix(value: np.ndarray) -> np.ndarray:
    """uint64 of any shape -> uint64; arithmetic is modulo 2^64."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(FIRST)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(SECOND)
    return value ^ (value >> np.uint64(31))
