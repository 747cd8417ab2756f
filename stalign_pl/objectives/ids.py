"""SpotIds: which spot each row of a batch is, which spots are too near to be its negatives, and what is padding."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stalign_pl.errors import ConfigError
from stalign_pl.objectives.gather import World, all_gather

SPOT_BITS = 32
"""A spot's key is slide * 2^32 + spot: one int64 that sorts and compares."""

NOTHING = -1
"""The key of an unused place in `excluded`: no valid spot's key."""


@dataclass(frozen=True)
class SpotIds:
    """The identity of a batch's rows.

    Attributes:
        slide: int64 [b], slide numbers, 0 to 2^31 - 1.
        spot: int64 [b], spot indices in their slide, 0 to 2^31 - 1.
        excluded: int64 [b, E], spot indices of the row's own slide that must not be its negatives (those whose niches
            share members with its own); -1 = none. E is the same on every rank.
        valid: bool [b]; False marks padding and damaged samples.

    Raises:
        ConfigError: another shape or dtype.
    """

    slide: Tensor
    spot: Tensor
    excluded: Tensor
    valid: Tensor

    def __post_init__(self) -> None:
        rows = len(self.slide)
        for name, tensor, ndim, dtype in (
            ("slide", self.slide, 1, torch.int64),
            ("spot", self.spot, 1, torch.int64),
            ("excluded", self.excluded, 2, torch.int64),
            ("valid", self.valid, 1, torch.bool),
        ):
            if tensor.ndim != ndim or len(tensor) != rows or tensor.dtype != dtype:
                shape = f"[{rows}]" if ndim == 1 else f"[{rows}, E]"
                raise ConfigError(f"SpotIds.{name} is {tensor.dtype} {list(tensor.shape)}; should be {dtype} {shape}")

    def __len__(self) -> int:
        return len(self.slide)

    def gathered(self, world: World) -> SpotIds:
        """The ids of all ranks' rows, in rank order; one collective."""
        packed = torch.cat((torch.stack((self.slide, self.spot, self.valid.long()), dim=1), self.excluded), dim=1)
        packed = all_gather(packed, world)
        return SpotIds(packed[:, 0], packed[:, 1], packed[:, 3:], packed[:, 2].bool())

    @property
    def keys(self) -> Tensor:
        """int64 [b]: one number a spot. Padding rows have keys too, of no meaning: `valid` is asked elsewhere."""
        return (self.slide << SPOT_BITS) + self.spot

    @property
    def excluded_keys(self) -> Tensor:
        """int64 [b, 1 + E]: keys of the row's own spot and of its excluded spots, `NOTHING` where there is none.

        The row's own spot is among them: the same spot at another place of the batch is no negative either.
        """
        spots = torch.cat((self.spot[:, None], self.excluded), dim=1)
        return torch.where(spots >= 0, (self.slide << SPOT_BITS)[:, None] + spots, NOTHING)
