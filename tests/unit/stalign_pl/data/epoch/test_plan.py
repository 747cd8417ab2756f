"""The plan: every spot once an epoch, cut by rank, a pure function of its arguments."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from stalign_pl.data.epoch.plan import PADDING, Composition, plan_reading, plan_training
from stalign_pl.errors import ConfigError

SIZES = dict(enumerate(np.random.default_rng(0).integers(64, 3000, 60).tolist()))


def seen(slide: np.ndarray, rank: np.ndarray) -> list[tuple[int, int]]:
    valid = slide != PADDING
    return sorted(zip(slide[valid].tolist(), rank[valid].tolist(), strict=True))


def everything(sizes: dict[int, int]) -> list[tuple[int, int]]:
    return [(number, rank) for number in sorted(sizes) for rank in range(sizes[number])]


@pytest.mark.parametrize("processes", [1, 2, 4, 8])
def test_every_spot_comes_once_an_epoch_on_any_number_of_ranks(processes: int) -> None:
    plan = plan_training(SIZES, Composition(16, 64, 8), seed=3, epoch=2)
    rows = [plan.rows_of(process, processes) for process in range(processes)]
    shapes = {plan.slide[:, part].shape for part in rows}
    assert shapes == {(len(plan), 1024 // processes)}  # equal counts on every rank
    slide = np.concatenate([plan.slide[:, part].ravel() for part in rows])
    rank = np.concatenate([plan.rank[:, part].ravel() for part in rows])
    assert seen(slide, rank) == everything(SIZES)


def test_the_catalogue_of_real_sizes_on_1_to_64_ranks(real_data: Path) -> None:
    path = real_data / "stimage1k4m" / "meta_all_gene02122025.csv"
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["tech"] == "Visium" and row["species"] == "human"]
    sizes = {number: int(float(row["spot_num"])) for number, row in enumerate(rows)}
    assert (len(sizes), sum(sizes.values())) == (531, 1_301_755)
    plan = plan_training(sizes, Composition(16, 64, 8), seed=0, epoch=0)
    assert (plan.slide[:-1] != PADDING).all()
    wanted = np.sort(np.concatenate([number * 100_000 + np.arange(size) for number, size in sizes.items()]))
    for processes in range(1, 65):
        if 1024 % processes:
            with pytest.raises(ConfigError, match=f"1024 spots does not divide by {processes} processes"):
                plan.rows_of(0, processes)
            continue
        taken = np.zeros(plan.slide.shape[1], int)
        for process in range(processes):
            part = plan.rows_of(process, processes)
            assert plan.slide[:, part].shape == (len(plan), 1024 // processes)  # equal counts on every rank
            taken[part] += 1
        assert (taken == 1).all()  # every row on one rank: what holds of the batch holds of the ranks together
    code = plan.slide.astype(np.int64) * 100_000 + plan.rank
    np.testing.assert_array_equal(np.sort(code[plan.slide != PADDING]), wanted)
    slides = [len(np.unique(batch)) for batch in plan.slide[:-1]]
    assert min(slides) >= 16
    assert max(slides) <= 20


def test_only_the_last_batch_is_padded() -> None:
    plan = plan_training(SIZES, Composition(16, 64, 8), seed=0, epoch=0)
    assert (plan.slide[:-1] != PADDING).all()
    assert (plan.slide[-1] == PADDING).sum() == len(plan) * 1024 - sum(SIZES.values())
    assert ((plan.slide == PADDING) == (plan.rank == PADDING)).all()


def test_the_plan_depends_on_its_arguments_alone() -> None:
    composition = Composition(4, 32, 8)
    one = plan_training(SIZES, composition, seed=1, epoch=5)
    backwards = plan_training(dict(reversed(SIZES.items())), composition, seed=1, epoch=5)
    np.testing.assert_array_equal(one.slide, backwards.slide)
    np.testing.assert_array_equal(one.rank, backwards.rank)
    for other in (plan_training(SIZES, composition, 1, 6), plan_training(SIZES, composition, 2, 5)):
        assert (one.rank != other.rank).mean() > 0.5


def test_a_spot_meets_other_partners_in_other_epochs() -> None:
    sizes, composition = {0: 640, 1: 640}, Composition(2, 64, 8)
    partners: set[int] = set()
    for epoch in range(10):
        plan = plan_training(sizes, composition, seed=0, epoch=epoch)
        batch = next(b for b in range(len(plan)) if ((plan.slide[b] == 0) & (plan.rank[b] == 100)).any())
        partners |= set(plan.rank[batch][plan.slide[batch] == 0].tolist())
    assert len(partners) > 300  # one fixed order would give 64


def test_runs_are_read_side_by_side() -> None:
    plan = plan_training(SIZES, Composition(16, 64, 8), seed=0, epoch=0)
    step = np.diff(plan.rank[0])[np.diff(plan.slide[0]) == 0]
    assert (step == 1).mean() > 0.8


def test_a_batch_that_does_not_divide_names_the_nearest_that_do() -> None:
    plan = plan_training({0: 100}, Composition(5, 20, 8), seed=0, epoch=0)
    with pytest.raises(ConfigError, match=r"100 spots does not divide by 8 processes; nearest that do: 96, 104"):
        plan.rows_of(0, 8)


def test_reading_in_order_takes_the_given_places_and_no_others() -> None:
    ranks = {4: np.array([5, 1, 3]), 2: np.arange(4), 9: np.zeros(0, int)}
    plan = plan_reading(ranks, batch=5)
    assert plan.slide.shape == (2, 5)
    assert seen(plan.slide, plan.rank) == [(2, 0), (2, 1), (2, 2), (2, 3), (4, 1), (4, 3), (4, 5)]


@pytest.mark.parametrize("field", ["slides", "spots", "run"])
def test_a_composition_of_nothing_is_refused(field: str) -> None:
    with pytest.raises(ConfigError, match=f"composition.{field} is 0"):
        Composition(**{field: 0})
