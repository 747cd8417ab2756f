"""A buffer is lent again when nothing uses its memory, and not before."""

from __future__ import annotations

import torch

from stalign_pl.batch.buffers import KEPT, BatchBuffers


def test_memory_comes_back_when_the_last_view_of_it_is_gone() -> None:
    buffers = BatchBuffers()
    first = buffers.lend((4, 2, 2, 3), torch.uint8)
    place = first.data_ptr()
    part = first[1:3].view(-1)
    del first
    second = buffers.lend((4, 2, 2, 3), torch.uint8)
    assert second.data_ptr() != place  # a slice still uses the first
    part.fill_(7)
    second.fill_(9)
    assert (part == 7).all()
    del part
    assert buffers.lend((4, 2, 2, 3), torch.uint8).data_ptr() == place


def test_numbers_of_counts_that_differ_a_little_share_buffers() -> None:
    buffers = BatchBuffers()
    pairs = buffers.lend((2, 1000), torch.int32)
    assert pairs.dtype == torch.int32
    assert pairs.is_contiguous()
    place = pairs.data_ptr()
    del pairs
    assert buffers.lend((2, 900), torch.int32).data_ptr() == place
    assert buffers.lend((2, 0), torch.int32).shape == (2, 0)


def test_no_more_than_a_few_wait() -> None:
    buffers = BatchBuffers()
    out = [buffers.lend((64,), torch.uint8) for _ in range(KEPT + 3)]
    assert len({tensor.data_ptr() for tensor in out}) == KEPT + 3
    out.clear()
    assert sum(len(free) for free in buffers._free.values()) == KEPT
