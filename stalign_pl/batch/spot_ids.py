"""SpotIds: which spot each row of a batch is, which spots are too near to be its negatives, and what is padding."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stalign_pl.distributed import World, all_gather
from stalign_pl.errors import ConfigError

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
        cluster: int64 [b], the spot's cluster in its slide, 0 to C - 1 (-1 in padding); None where no table of clusters
            is read. On every rank or on none.
        draws: float32 [b, C], the row's uniform numbers in [0, 1), one a cluster: which of its slide's rows become its
            paired negatives. A function of (seed, epoch, spot), see `stalign_pl.draws`.

    Raises:
        ConfigError: a column of another shape or dtype.
    """

    slide: Tensor
    spot: Tensor
    excluded: Tensor
    valid: Tensor
    cluster: Tensor | None = None
    draws: Tensor | None = None

    def __post_init__(self) -> None:
        rows = len(self.slide)
        _check("slide", self.slide, torch.int64, rows)
        _check("spot", self.spot, torch.int64, rows)
        _check("excluded", self.excluded, torch.int64, rows, "E")
        _check("valid", self.valid, torch.bool, rows)
        if self.cluster is not None:
            _check("cluster", self.cluster, torch.int64, rows)
        if self.draws is not None:
            _check("draws", self.draws, torch.float32, rows, "C")

    def __len__(self) -> int:
        return len(self.slide)

    def gather(self, world: World) -> SpotIds:
        """Gather the ids of all ranks' rows, in rank order; one collective. Draws stay: only their own rank reads them.

        Args:
            world: the processes that gather.
        """
        columns = [self.slide, self.spot, self.valid.long()] + ([] if self.cluster is None else [self.cluster])
        packed = all_gather(torch.cat((torch.stack(columns, dim=1), self.excluded), dim=1), world)
        cluster = None if self.cluster is None else packed[:, 3]
        return SpotIds(packed[:, 0], packed[:, 1], packed[:, len(columns) :], packed[:, 2].bool(), cluster)

    @property
    def keys(self) -> Tensor:
        """int64 [b]: one number a spot. Rows that are not valid have keys without meaning; callers ask `valid`."""
        return (self.slide << SPOT_BITS) + self.spot

    @property
    def excluded_keys(self) -> Tensor:
        """int64 [b, 1 + E]: keys of the row's own spot and of its excluded spots, `NOTHING` where there is none.

        The row's own spot is among them: the same spot at another place of the batch is no negative either.
        """
        spots = torch.cat((self.spot[:, None], self.excluded), dim=1)
        return torch.where(spots >= 0, (self.slide << SPOT_BITS)[:, None] + spots, NOTHING)


def _check(name: str, column: Tensor, dtype: torch.dtype, rows: int, axis: str = "") -> None:
    """Raise ConfigError unless a column is [rows], or [rows, axis] where an axis is named, and of the type."""
    shape = f"[{rows}, {axis}]" if axis else f"[{rows}]"
    if column.ndim != 1 + bool(axis) or len(column) != rows or column.dtype != dtype:
        raise ConfigError(f"SpotIds.{name} is {column.dtype} {list(column.shape)}; should be {dtype} {shape}")
