"""Reuses the memory of batches: mapping it anew for every batch costs as much as filling it with counts."""

from __future__ import annotations

import math
import weakref
from collections import deque

import numpy as np
import torch
from torch import Tensor

KEPT = 4
"""Free buffers kept of one size: for batches read ahead, one being read and one in use. More may be lent out."""


class BatchBuffers:
    """Lends tensors whose memory returns by itself when nothing refers to it any more.

    In ordinary memory a loan is a numpy view of its own: torch holds it for as long as any tensor (a slice, another
    view) uses the storage, and its end returns the buffer. In pinned memory the loan is torch's own, whose host
    allocator recycles blocks likewise, and waits for copies to the GPU that are still under way.

    Args:
        pin: pinned memory, for transfer to a GPU.
    """

    def __init__(self, pin: bool = False) -> None:
        self.pin = pin
        self._free: dict[int, deque[np.ndarray]] = {}

    def lend(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Lend a tensor that nobody else uses, with whatever the last user left in it."""
        if self.pin:
            return torch.empty(shape, dtype=dtype, pin_memory=True)
        wanted = math.prod(shape) * dtype.itemsize
        size = 1 << max(wanted - 1, 1).bit_length()  # numbers of counts differ a little from batch to batch
        # Append and pop are atomic: a loan may end in any thread.
        free = self._free.setdefault(size, deque(maxlen=KEPT))
        try:
            memory = free.pop()
        except IndexError:
            memory = np.empty(size, np.uint8)
        loan = memory[:wanted]
        weakref.finalize(loan, free.append, memory).atexit = False
        return torch.from_numpy(loan).view(dtype).view(shape)
