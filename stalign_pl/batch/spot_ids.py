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
        ConfigError: another shape or dtype.
    """

    slide: Tensor
    spot: Tensor
    excluded: Tensor
    valid: Tensor
    cluster: Tensor | None = None
    draws: Tensor | None = None

    def __post_init__(self) -> None:
        rows = len(self.slide)
        for name, tensor, shape, dtype in (
            ("slide", self.slide, f"[{rows}]", torch.int64),
            ("spot", self.spot, f"[{rows}]", torch.int64),
            ("excluded", self.excluded, f"[{rows}, E]", torch.int64),
            ("valid", self.valid, f"[{rows}]", torch.bool),
            ("cluster", self.cluster, f"[{rows}]", torch.int64),
            ("draws", self.draws, f"[{rows}, C]", torch.float32),
        ):
            if tensor is None and name in ("cluster", "draws"):
                continue
            if tensor.ndim != 1 + shape.count(",") or len(tensor) != rows or tensor.dtype != dtype:
                raise ConfigError(f"SpotIds.{name} is {tensor.dtype} {list(tensor.shape)}; should be {dtype} {shape}")

    def __len__(self) -> int:
        return len(self.slide)

    def gathered(self, world: World) -> SpotIds:
        """The ids of all ranks' rows, in rank order, without draws, which only their own rank reads; one collective."""
        columns = [self.slide, self.spot, self.valid.long()] + ([] if self.cluster is None else [self.cluster])
        packed = all_gather(torch.cat((torch.stack(columns, dim=1), self.excluded), dim=1), world)
        cluster = None if self.cluster is None else packed[:, 3]
        return SpotIds(packed[:, 0], packed[:, 1], packed[:, len(columns) :], packed[:, 2].bool(), cluster)

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
