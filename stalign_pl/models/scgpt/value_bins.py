"""scGPT's value binning: replaces a spot's non-zero values by bins between the spot's own quantiles."""

from __future__ import annotations

import torch
from torch import Tensor

TIE_BITS = 24
"""Bits of a draw that breaks ties."""


def bin_values(values: Tensor, expressed: Tensor, bins: int, tie: Tensor) -> Tensor:
    """Bin each row by its own quantiles, as scGPT's `binning` does (Cui et al. 2024; package scgpt 0.2.4).

    The edges are the quantiles 0, 1/49, ..., 1 (for 51 bins) of the row's expressed values, interpolated linearly, and
    a value's bin is the number of edges up to it. Where it equals edges, as counts of 1 do, every bin from below those
    edges to above them is valid: the reference draws one anew each time, here `tie` decides, so that a result is one
    that the reference could give, and the same each time. Bins depend on the order of the values only: those of counts
    and of log1p(CP10K) are the same.

    The quantiles are compared by rank in whole numbers, exactly. (The reference interpolates in floating point, whose
    rounding can move an edge off a value that it equals in exact arithmetic: .07 % of Poisson counts get one bin higher
    there, values without ties never.)

    Args:
        values: [B, G] float.
        expressed: bool [B, G], the values to bin; others get 0.
        bins: 3 or more, including bin 0 of values that are not expressed: 51 in the published models.
        tie: int64 [G], each gene's draw, uniform on 0 to 2^24 - 1.

    Returns:
        int64 [B, G]: 1 to bins - 1 where expressed, else 0.
    """
    last = expressed.sum(dim=1, keepdim=True).sub(1).clamp(min=0)
    place = torch.arange(bins - 1, device=values.device) * last  # of the edges among the sorted, times bins - 2
    low, high = place // (bins - 2), -(-place // (bins - 2))
    ordered = values.masked_fill(~expressed, torch.inf).sort(dim=1).values
    given = values.contiguous()
    up_to = torch.searchsorted(ordered.gather(1, high), given, right=True)
    below = torch.searchsorted(ordered.gather(1, low), given)
    return (up_to - ((up_to - below) * tie >> TIE_BITS)).masked_fill(~expressed, 0)
