"""The settings of a build that decide what is in the shards; the manifest repeats them."""

from __future__ import annotations

from dataclasses import dataclass

from data_prep.shards.niches import NeighborRule
from stalign_pl.errors import ConfigError


@dataclass(frozen=True)
class BuildSettings:
    """Settings of a whole build.

    Attributes:
        seed: of the samples' random order in the tars.
        part_spots: a slide with more spots than this is cut into several tars.
        rings: which neighbours are stored, see niches.NeighborRule.
        radii_um: see there.
        nearest: see there.
        spot_scale: side of the spot crop in spot diameters.
        niche_pitches: side of the niche crop in pitches.
    """

    seed: int = 0
    part_spots: int = 20_000
    rings: int = 4
    radii_um: tuple[float, ...] = ()
    nearest: tuple[int, ...] = ()
    spot_scale: float = 1.0
    niche_pitches: float = 3.0

    def __post_init__(self) -> None:
        NeighborRule(self.rings, self.radii_um, self.nearest)  # refuses what is no rule
        for name in ("part_spots", "spot_scale", "niche_pitches"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ConfigError(f"setting {name} is {getattr(self, name)}; a value above 0 is wanted")
        if self.seed < 0:
            raise ConfigError(f"setting seed is {self.seed}; 0 or more is wanted")

    @property
    def neighbors(self) -> NeighborRule:
        """Which neighbours are stored."""
        return NeighborRule(self.rings, self.radii_um, self.nearest)


@dataclass(frozen=True)
class CropSettings:
    """A slide's crops: those of the build, unless its source entry has its own. See BuildSettings."""

    spot_scale: float
    niche_pitches: float
