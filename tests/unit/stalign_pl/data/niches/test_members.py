"""In which type counts travel."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stalign_pl.batch.buffers import BatchBuffers
from stalign_pl.data.niches.members import Members, SlideRows


class StoredCounts:
    """A slide whose spot i has one count, of gene i."""

    def __init__(self, counts: list[int], dtype: type) -> None:
        self.counts = np.array([range(len(counts)), counts], dtype)

    def pairs(self, spots: np.ndarray) -> list[np.ndarray]:
        return [self.counts[:, spot : spot + 1] for spot in spots]


@pytest.mark.parametrize(
    ("most", "stored", "weight", "travels"),
    [
        (65_535, np.uint16, None, torch.uint16),
        (70_000, np.uint32, None, torch.int32),
        (65_535, np.uint16, 16, torch.int32),
    ],
)
def test_counts_travel_as_stored_and_wide_where_a_slide_or_a_weight_needs_it(
    most: int, stored: type, weight: int | None, travels: torch.dtype
) -> None:
    members = Members(4, 2, weighted=weight is not None)
    members.spots[:3], members.used[:3] = [[0, 1], [0, 0], [1, 0]], [2, 0, 1]  # the fourth row is padding
    if weight is not None:
        members.weights[:] = weight
    rows = [SlideRows(StoredCounts([65_535, 3], np.uint16), 0, 2), SlideRows(StoredCounts([1, most], stored), 2, 3)]
    found = members.gather(rows, BatchBuffers())
    assert (found.gene.dtype, found.count.dtype) == (travels, travels)
    assert found.length.tolist() == [2, 0, 1, 0]
    assert found.row.tolist() == [0, 0, 2]
    assert found.gene.tolist() == [0, 1, 1]
    assert found.count.tolist() == [(weight or 1) * count for count in (65_535, 3, most)]
