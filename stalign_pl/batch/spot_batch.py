"""What travels from the reader to the device: one batch of spots, fixed in shape, images as stored, genes sparse."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, is_dataclass

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
        gene, count: [n], uint16 as stored, or int32 where a slide or a weight needs it; gene is an index of the set's
            gene table. They travel in the narrow type: widened on the way, they would be written twice as large.
    """

    length: Tensor
    gene: Tensor
    count: Tensor

    @property
    def row(self) -> Tensor:
        """int64 [n], the pairs' rows."""
        numbers = torch.arange(len(self.length), device=self.length.device)
        return numbers.repeat_interleave(self.length, output_size=len(self.gene))


@dataclass(frozen=True)
class SpotBatch:
    """B rows of a batch, host or device. Rows with `valid` False (padding, damaged samples) count for nothing.

    They show the pictures of valid rows (black where there is none), without their counts.

    Attributes:
        slide: int64 [B], slide number in the set, -1 in rows that are not valid.
        spot: int64 [B], spot index in its slide, likewise.
        table: int64 [B], the slide's row in per-slide tables (panels, stains).
        valid: bool [B].
        spot_image, niche_image: uint8 [B, side, side, 3], the picture in the upper left corner of each.
        spot_box, niche_box: float32 [B, 4], (x0, y0, x1, y1) of what to show, in pixels of that picture.
        spot_px, niche_px: float32 [B], the side of the stored picture.
        spot_counts: the spot's own genes. niche_counts: those of its niche's members, one after another.
        excluded: int32 [B, E], spot indices of the same slide that are no negatives; -1 fills up.
        draws: float32 [B, n] in [0, 1), the row's random numbers for augmentation (n = 0 without).
        damaged: the batch's samples that cannot be used, whose rows are not valid.
        features: of streams that are cached; their pictures then have no pixel (side 0).
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
        """The same batch on a device. Lightning moves batches by this method, and asks for no asynchronous copy.

        Pinned memory is copied asynchronously all the same: torch hands it out again only when the copy is done.
        """
        return _map(self, lambda tensor: tensor.to(device, non_blocking=non_blocking or tensor.is_pinned()))

    def pin_memory(self) -> SpotBatch:
        return _map(self, Tensor.pin_memory)


def _map(value, change):
    """Apply `change` to every tensor of a dataclass of tensors; what is neither stays as it is."""
    if isinstance(value, Tensor):
        return change(value)
    if not is_dataclass(value):
        return value
    return type(value)(**{item.name: _map(getattr(value, item.name), change) for item in fields(value)})
