"""What travels from the reader to the device: one batch of spots, fixed in shape, images as stored, genes sparse."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from stalign_pl.batch.damage import Damaged
from stalign_pl.batch.features import CachedFeatures


@dataclass(frozen=True)
class CountPairs:
    """Raw counts of B rows, one row's after another's; a gene may come several times in a row and is then summed.

    Those of a weighted niche are counts times whole weights.

    Attributes:
        length: int64 [B], pairs of each row.
        gene: [n], index of the shard set's gene table; uint16 as stored, or int32 where a slide or a weight needs it.
            It travels in the narrow type: widened on the way, it would be written twice as large.
        count: [n], of the same type.
    """

    length: Tensor
    gene: Tensor
    count: Tensor

    @property
    def row(self) -> Tensor:
        """int64 [n], the row of each pair."""
        numbers = torch.arange(len(self.length), device=self.length.device)
        return numbers.repeat_interleave(self.length, output_size=len(self.gene))


@dataclass(frozen=True)
class SpotBatch:
    """B rows of a batch, on host or device. Rows with `valid` False (padding, damaged samples) have no effect.

    They repeat the pictures of valid rows (black where there is none), without their counts.

    Attributes:
        slide: int64 [B], slide number in the shard set, -1 in rows that are not valid.
        spot: int64 [B], spot index in its slide, likewise.
        table: int64 [B], the slide's row in per-slide tables (panels, stains).
        valid: bool [B].
        spot_image: uint8 [B, side, side, 3], the spot's picture in the upper left corner.
        spot_box: float32 [B, 4], (x0, y0, x1, y1) of what to show, in pixels of that picture.
        spot_px: float32 [B], side of the stored picture, px.
        spot_counts: counts of the spot.
        niche_image: as `spot_image`, of the niche.
        niche_box: as `spot_box`, of the niche's picture.
        niche_px: as `spot_px`, of the niche's picture.
        niche_counts: counts of the niche's members, one member's after another's.
        excluded: int32 [B, E], spot indices of the same slide that are no negatives; -1 fills up.
        draws: float32 [B, n] in [0, 1), the row's random numbers for augmentation (n = 0 without).
        damaged: the batch's samples that cannot be used, whose rows are not valid.
        features: cached features; the pictures of these streams have no pixel (side 0).
    """

    slide: Tensor
    spot: Tensor
    table: Tensor
    valid: Tensor
    spot_image: Tensor
    spot_box: Tensor
    spot_px: Tensor
    spot_counts: CountPairs
    niche_image: Tensor
    niche_box: Tensor
    niche_px: Tensor
    niche_counts: CountPairs
    excluded: Tensor
    draws: Tensor
    damaged: tuple[Damaged, ...] = ()
    features: CachedFeatures = field(default_factory=CachedFeatures)

    def __len__(self) -> int:
        return len(self.slide)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> SpotBatch:
        """Copy the batch to a device. Lightning moves batches by this method, and asks for no asynchronous copy.

        Pinned memory is copied asynchronously all the same: torch hands it out again only when the copy is done.

        Args:
            device: where to.
            non_blocking: copy asynchronously from memory that is not pinned, too.
        """
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking or tensor.is_pinned()))

    def pin_memory(self) -> SpotBatch:
        """Copy the batch to pinned memory."""
        return self._map(Tensor.pin_memory)

    def _map(self, change: Callable[[Tensor], Tensor]) -> SpotBatch:
        """Apply `change` to every tensor of the batch, those of its counts and features included."""
        return replace(self, **{name: _change(value, change) for name, value in vars(self).items()})


def _change(value: object, change: Callable[[Tensor], Tensor]) -> object:
    """Apply `change` to a tensor, or to the tensors of counts or features; other values stay as they are."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, CountPairs | CachedFeatures):
        return replace(value, **{name: _change(part, change) for name, part in vars(value).items()})
    return value
