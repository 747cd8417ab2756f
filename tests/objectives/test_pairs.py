"""Who is contrasted with whom."""

import pytest
import torch

from stalign_pl.errors import ConfigError
from stalign_pl.objectives import Pairs, SpotIds, World
from stalign_pl.objectives.pairs import listed
from tests.objectives.reference import batch_ids


def ids_of(slide, spot, excluded, valid=None):
    valid = [True] * len(slide) if valid is None else valid
    return SpotIds(torch.tensor(slide), torch.tensor(spot), torch.tensor(excluded), torch.tensor(valid))


@pytest.mark.parametrize("seed", range(20))
def test_listed_is_membership_whatever_the_order_and_repeats(seed):
    generator = torch.Generator().manual_seed(seed)
    lists = torch.randint(-2, 12, (7, 5), generator=generator)
    keys = torch.randint(-1, 14, (9,), generator=generator)
    expected = [[key in row for key in keys.tolist()] for row in lists.tolist()]
    assert listed(lists, keys).tolist() == expected


def test_one_side_of_an_exclusion_is_enough():
    pairs = Pairs.of(ids_of([0, 0, 0], [4, 5, 9], [[5], [-1], [-1]]), World())
    assert pairs.contrasted.tolist() == [[True, False, True], [False, True, True], [True, True, True]]


def test_an_index_excludes_in_its_own_slide_alone():
    pairs = Pairs.of(ids_of([0, 1], [4, 5], [[5], [4]]), World())
    assert pairs.contrasted.all()


def test_slides_with_large_numbers_do_not_run_into_each_other():
    top = 2**31 - 1
    pairs = Pairs.of(ids_of([top, top - 1, top], [top, top, top - 1], [[top - 1], [-1], [-1]]), World())
    assert pairs.contrasted.tolist() == [[True, True, False], [True, True, True], [False, True, True]]


def test_the_same_spot_twice_is_no_negative_of_itself():
    pairs = Pairs.of(ids_of([0, 0, 0], [4, 4, 9], [[-1], [-1], [4]]), World())
    assert pairs.contrasted.tolist() == [[True, False, False], [False, True, False], [False, False, True]]


def test_padding_that_bears_a_real_spots_id_hides_nothing():
    pairs = Pairs.of(ids_of([0, 0, 0], [0, 0, 1], [[1], [-1], [-1]], [False, True, True]), World())
    assert pairs.contrasted.tolist() == [[True, False, False], [False, True, True], [False, True, True]]
    assert pairs.other.tolist() == [[False] * 3, [False, False, True], [False, True, False]]
    assert pairs.valid_count.item() == 2


@pytest.mark.parametrize("padding", [-1, 0])
def test_padding_ids_of_any_value_hide_nothing(padding):
    ids = ids_of([padding, 0, 0], [padding, 0, 1], [[1, 0], [-1, -1], [-1, -1]], [False, True, True])
    assert Pairs.of(ids, World()).contrasted[1:, 1:].all()
    assert not Pairs.of(ids, World()).contrasted[1:, 0].any()


def test_same_slide_only_keeps_the_anchors_slide():
    ids = batch_ids(12, seed=0)
    pairs = Pairs.of(ids, World(), same_slide_only=True)
    for i, j in (~(ids.slide[:, None] == ids.slide)).nonzero().tolist():
        assert not pairs.contrasted[i, j]
    assert (pairs.contrasted.sum(1) > 1).any()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("slide", torch.zeros(3, dtype=torch.int32)),
        ("spot", torch.zeros(4, dtype=torch.int64)),
        ("excluded", torch.zeros(3, dtype=torch.int64)),
        ("valid", torch.ones(3)),
    ],
)
def test_a_wrong_field_is_named(field, value):
    fields = {
        "slide": torch.zeros(3, dtype=torch.int64),
        "spot": torch.zeros(3, dtype=torch.int64),
        "excluded": torch.zeros(3, 2, dtype=torch.int64),
        "valid": torch.ones(3, dtype=torch.bool),
    }
    SpotIds(**fields)
    with pytest.raises(ConfigError, match=rf"SpotIds\.{field} is"):
        SpotIds(**{**fields, field: value})
