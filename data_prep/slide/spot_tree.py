"""The k-d tree in which a slide's spots look for their nearest."""

from __future__ import annotations

import numpy as np
from scipy.spatial import KDTree

LEAF_SPOTS = 16
"""Spots a leaf. Which of several equally near spots comes first depends on it, so every tree has the same."""


def build_tree(xy: np.ndarray) -> KDTree:
    """Build the tree of positions.

    Args:
        xy: [N, 2] float, in any unit.
    """
    return KDTree(xy, leafsize=LEAF_SPOTS)


def find_nearest(xy: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Find every position's nearest positions, of which it is itself the first.

    Args:
        xy: [N, 2] float, in any unit.
        count: how many to find, 2 or more.

    Returns:
        float64 [N, count], distances, ascending; int64 [N, count], indices into `xy`.
    """
    distance, index = build_tree(xy).query(xy, k=count)
    return np.asarray(distance), np.asarray(index)
