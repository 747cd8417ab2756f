"""Which neighbours make a niche, and which spots are too near to be negatives: choices of training, not of shards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from stalign_pl.errors import ConfigError

Weights = Literal["uniform", "ring", "distance"]
KNOWN_WEIGHTS = (
    f"{', '.join(get_args(Weights))}, a number between 0 and 1 (1 is uniform), or a tuple of one for each ring, "
    f"above 0 and up to 1"
)
EXCLUDED = "niche.exclude_rings (null is 2 x niche.rings)"

WHOLE = 16
"""The weight of the target itself; other weights are whole sixteenths of it, so that weighted counts stay whole."""


@dataclass(frozen=True)
class NicheConfig:
    """The niche of a spot.

    Attributes:
        k: number of nearest spots in it, target not counted (the paper: 3); null takes the whole rings; 0 is the spot
            alone.
        rings: the k are sought within this many rings (one pitch each, unless the shards were built with other
            bounds), so that a spot at the edge reaches no further.
        exclude_rings: spots this near are no negatives of each other; null is 2 x rings, which covers every
            two niches that share a member.
        leave_target_out: sum the niche's genes without the target's own, so that cross-scale matching is not identity.
        image: "box" is the bounding box over the patches of the target and its niche (the paper's niche image),
            "view" the whole stored field of view.
        weights: weights of the members in the niche's sum of counts. "uniform": all alike (the paper); "ring":
            1 / (1 + ring), so 1/2 in the first ring, 1/3 in the second; "distance": 1 / (1 + distance in pitches),
            which on a perfect lattice differs from "ring" only inside the outer rings; a number between 0 and 1: each
            ring counts that many times the one inside it; several, up to 1: each ring's own, from the inside. All are
            rounded to whole sixteenths, at least one, so that sums stay exact: .33 is 5, 2, 1 sixteenths in rings 1 to
            3.
        even_depth: depth-normalise the members' counts (`normalise_depth`), so that the spot with the most molecules
            does not dominate the sum.
    """

    k: int | None = 3
    rings: int = 1
    exclude_rings: int | None = None
    leave_target_out: bool = False
    image: str = "box"
    weights: Weights | float | tuple[float, ...] = "uniform"
    even_depth: bool = False

    def __post_init__(self) -> None:
        problems = []
        if self.k is not None and self.k < 0:
            problems.append(f"niche.k is {self.k}; it must be 0 or more, or null for whole rings")
        if self.rings < 1:
            problems.append(f"niche.rings is {self.rings}; it must be at least 1")
        if self.exclude_rings is not None and self.exclude_rings < 0:
            problems.append(f"niche.exclude_rings is {self.exclude_rings}; it must be 0 or more, or null")
        if self.leave_target_out and self.k == 0:
            problems.append("niche.leave_target_out with niche.k = 0 leaves an empty niche")
        if self.image not in ("box", "view"):
            problems.append(f"niche.image is {self.image!r}; known: box, view")
        problems += self._find_wrong_weights()
        if problems:
            raise ConfigError("; ".join(problems))

    def _find_wrong_weights(self) -> list[str]:
        """Describe what is wrong with `weights`; empty where nothing is."""
        if isinstance(self.weights, tuple):
            if len(self.weights) != self.rings:
                return [f"niche.weights is {self.weights!r}, of {len(self.weights)} rings; niche.rings is {self.rings}"]
            known = all(isinstance(weight, float) and 0 < weight <= 1 for weight in self.weights)
        elif isinstance(self.weights, float):
            known = 0 < self.weights < 1
        else:
            known = self.weights in get_args(Weights)
        return [] if known else [f"niche.weights is {self.weights!r}; known: {KNOWN_WEIGHTS}"]

    @property
    def excluded_rings(self) -> int:
        """Rings around a spot whose spots are no negatives of it."""
        return 2 * self.rings if self.exclude_rings is None else self.exclude_rings

    def excluded_width(self, ring_members: list[tuple[int, ...]]) -> int:
        """The most spots that any spot excludes, at least 1.

        Args:
            ring_members: `SlideRecord.ring_members` of each slide: the most spots within each ring.

        Raises:
            ConfigError: rings that a slide's shard does not hold, or a k that no slide's rings reach.
        """
        for stored in ring_members:
            _ring_end(stored, self.rings, "niche.rings")
            if self.excluded_rings:
                _ring_end(stored, self.excluded_rings, EXCLUDED)
        within = max(stored[self.rings - 1] for stored in ring_members)
        if self.k is not None and self.k > within:
            raise ConfigError(f"niche.k is {self.k}; within niche.rings = {self.rings} there are {within} at most")
        return max((stored[self.excluded_rings - 1] for stored in ring_members if self.excluded_rings), default=1) or 1

    def members_width(self, ring_members: list[tuple[int, ...]]) -> int:
        """The most spots that any niche holds, its target counted.

        Args:
            ring_members: as in `excluded_width`.
        """
        within = max(stored[self.rings - 1] for stored in ring_members) if self.k is None else self.k
        return within + 1

    def members(self, neighbors: np.ndarray, ring_ends: list[int]) -> np.ndarray:
        """Select the members of a niche, target not counted.

        Args:
            neighbors: int32 [n], spot indices of a sample's neighbours in order of distance.
            ring_ends: cumulative ends of the rings in it.

        Returns:
            int32 [members], spot indices.
        """
        within = neighbors[: _ring_end(ring_ends, self.rings, "niche.rings")]
        return within if self.k is None else within[: self.k]

    def member_weights(self, far: np.ndarray) -> np.ndarray:
        """Compute the weights of a niche's members, in sixteenths; the target's own is WHOLE.

        Args:
            far: [members], distance from the target: in pitches for "distance", else the ring, a whole number from 1.

        Returns:
            int32 [members], 1 to WHOLE.
        """
        if self.weights == "uniform":
            return np.full(len(far), WHOLE, np.int32)
        if isinstance(self.weights, tuple):
            share = np.array(self.weights)[far.astype(np.int64) - 1]
        else:
            share = self.weights**far if isinstance(self.weights, float) else 1 / (1 + far)
        return np.maximum(np.rint(WHOLE * share), 1).astype(np.int32)

    def excluded(self, neighbors: np.ndarray, ring_ends: list[int]) -> np.ndarray:
        """Select the spots that are no negatives of the target; as `members`."""
        if self.excluded_rings == 0:
            return neighbors[:0]
        return neighbors[: _ring_end(ring_ends, self.excluded_rings, EXCLUDED)]


def _ring_end(ring_ends: Sequence[int], rings: int, name: str) -> int:
    """The end of a ring; raises ConfigError, with the option's name, where the shards do not hold it."""
    if rings > len(ring_ends):
        raise ConfigError(f"{name} asks for {rings} rings; the shards hold {len(ring_ends)}")
    return ring_ends[rings - 1]
