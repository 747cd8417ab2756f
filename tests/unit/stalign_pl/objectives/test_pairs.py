"""Who is contrasted with whom."""

from __future__ import annotations

import pytest
import torch

from stalign_pl.batch.spot_ids import SpotIds
from stalign_pl.distributed import World
from stalign_pl.errors import ConfigError
from stalign_pl.objectives import Pairs
from stalign_pl.objectives.pairs import Masks
from tests.support.loss_reference import batch_ids, negatives_of


def ids_of(slide: list[int], spot: list[int], excluded: list[list[int]], valid: list[bool] | None = None) -> SpotIds:
    valid = [True] * len(slide) if valid is None else valid
    return SpotIds(torch.tensor(slide), torch.tensor(spot), torch.tensor(excluded), torch.tensor(valid))


def masks_of(ids: SpotIds, other_slides: float = 1.0, chunk: int = 1024) -> Masks:
    """The masks of all rows, put together from chunks."""
    pairs = Pairs(ids, World(), other_slides, chunk)
    parts = [pairs.masks(rows) for rows in pairs.chunks]
    assert [len(part.positive) for part in parts[:-1]] == [chunk] * (len(parts) - 1)
    names = ("contrasted", "same_slide", "other_slide", "positive")
    return Masks(*(torch.cat([getattr(part, name) for part in parts]) for name in names))


@pytest.mark.parametrize("chunk", [1, 4, 9])
@pytest.mark.parametrize("seed", range(10))
def test_masks_are_membership_whatever_the_order_repeats_and_chunks(seed: int, chunk: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    slide, spot = torch.randint(2, (2, 9), generator=generator) * torch.tensor([[1], [3]])
    spot = spot + torch.randint(4, (9,), generator=generator)
    lists, valid = torch.randint(-1, 8, (9, 3), generator=generator), torch.rand(9, generator=generator) < 0.9
    ids = SpotIds(slide, spot, lists, valid)
    masks = masks_of(ids, chunk=chunk)
    for i in range(9):
        negatives = {j for j, _ in negatives_of(i, ids)} if valid[i] else set()
        assert set(masks.contrasted[i].nonzero().flatten().tolist()) == negatives | {i}
    same = slide[:, None] == slide
    other = valid[:, None] & valid & ~torch.eye(9, dtype=torch.bool)
    assert torch.equal(masks.same_slide, other & same)
    assert torch.equal(masks.other_slide, other & ~same)
    assert masks.positive.tolist() == list(range(9))


def test_one_side_of_an_exclusion_is_enough() -> None:
    masks = masks_of(ids_of([0, 0, 0], [4, 5, 9], [[5], [-1], [-1]]))
    assert masks.contrasted.tolist() == [[True, False, True], [False, True, True], [True, True, True]]


def test_an_index_excludes_in_its_own_slide_alone() -> None:
    masks = masks_of(ids_of([0, 1], [4, 5], [[5], [4]]))
    assert masks.contrasted.all()


def test_slides_with_large_numbers_do_not_run_into_each_other() -> None:
    top = 2**31 - 1
    masks = masks_of(ids_of([top, top - 1, top], [top, top, top - 1], [[top - 1], [-1], [-1]]))
    assert masks.contrasted.tolist() == [[True, True, False], [True, True, True], [False, True, True]]


def test_the_same_spot_twice_is_no_negative_of_itself() -> None:
    masks = masks_of(ids_of([0, 0, 0], [4, 4, 9], [[-1], [-1], [4]]))
    assert masks.contrasted.tolist() == [[True, False, False], [False, True, False], [False, False, True]]


def test_padding_that_bears_a_real_spots_id_hides_nothing() -> None:
    ids = ids_of([0, 0, 0], [0, 0, 1], [[1], [-1], [-1]], [False, True, True])
    masks = masks_of(ids)
    assert masks.contrasted.tolist() == [[True, False, False], [False, True, True], [False, True, True]]
    assert masks.same_slide.tolist() == [[False] * 3, [False, False, True], [False, True, False]]
    assert Pairs(ids, World()).valid_count.item() == 2


@pytest.mark.parametrize("padding", [-1, 0])
def test_padding_ids_of_any_value_hide_nothing(padding: int) -> None:
    ids = ids_of([padding, 0, 0], [padding, 0, 1], [[1, 0], [-1, -1], [-1, -1]], [False, True, True])
    assert masks_of(ids).contrasted[1:, 1:].all()
    assert not masks_of(ids).contrasted[1:, 0].any()


def test_no_weight_for_other_slides_keeps_the_anchors_slide() -> None:
    ids = batch_ids(12, seed=0)
    masks = masks_of(ids, other_slides=0)
    assert masks.other_slide.any()
    for i, j in (~(ids.slide[:, None] == ids.slide)).nonzero().tolist():
        assert not masks.contrasted[i, j]
    assert (masks.contrasted.sum(1) > 1).any()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("slide", torch.zeros(3, dtype=torch.int32)),
        ("spot", torch.zeros(4, dtype=torch.int64)),
        ("excluded", torch.zeros(3, dtype=torch.int64)),
        ("valid", torch.ones(3)),
        ("cluster", torch.zeros(3)),
        ("draws", torch.zeros(3)),
        ("draws", torch.zeros(4, 6)),
    ],
)
def test_a_wrong_field_is_named(field: str, value: torch.Tensor) -> None:
    fields = {
        "slide": torch.zeros(3, dtype=torch.int64),
        "spot": torch.zeros(3, dtype=torch.int64),
        "excluded": torch.zeros(3, 2, dtype=torch.int64),
        "valid": torch.ones(3, dtype=torch.bool),
        "cluster": torch.zeros(3, dtype=torch.int64),
        "draws": torch.zeros(3, 6),
    }
    SpotIds(**fields)
    with pytest.raises(ConfigError, match=rf"SpotIds\.{field} is"):
        SpotIds(**{**fields, field: value})
