"""The plan's figures against counting row by row, and the command that prints them."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import yaml

from stalign_pl.cli.main import main
from stalign_pl.data.epoch.figures import compute_figures, estimate_excluded_shares, read_excluded_spots
from stalign_pl.data.epoch.plan import Composition, Plan, plan_training
from stalign_pl.data.niches.config import NicheConfig
from stalign_pl.data.shards.shard_set import ShardSet, SlideShard
from tests.support.paths import REPOSITORY

NICHE = NicheConfig(k=3)
COMPOSITION = Composition(2, 20, 4)


@pytest.fixture(scope="module")
def shards(tiny_shards: Path) -> ShardSet:
    return ShardSet(tiny_shards)


def counted_by_rows(
    plan: Plan, slides: Mapping[int, SlideShard], excluded: Mapping[int, Mapping[int, np.ndarray]]
) -> tuple[int, int, int]:
    """(pairs, pairs of one slide, masked pairs), ordered, by looking at every pair."""
    pairs = own = masked = 0
    for numbers, ranks in zip(plan.slide, plan.rank, strict=True):
        rows = [(n, slides[n].spot_of_rank[r]) for n, r in zip(numbers.tolist(), ranks.tolist(), strict=True) if n >= 0]
        for number, spot in rows:
            for other, beside in rows:
                pairs += (number, spot) != (other, beside)
                own += number == other and spot != beside
                near = (
                    beside in excluded[number][spot] or spot in excluded[number][beside] if number == other else False
                )
                masked += number == other and near
    return pairs, own, masked


def test_figures_are_those_counted_row_by_row(shards: ShardSet) -> None:
    plan = plan_training({number: len(slide) for number, slide in shards.slides.items()}, COMPOSITION, 0, 3)
    excluded = {n: read_excluded_spots(slide, NICHE, np.arange(len(slide))) for n, slide in shards.slides.items()}
    pairs, own, masked = counted_by_rows(plan, shards.slides, excluded)
    figures = compute_figures(plan, 3, shards.slides, NICHE)
    assert (figures.batches, figures.spots, figures.rows, figures.padding) == (5, 192, 40, 8)
    assert figures.partners == pytest.approx(own / 192)
    assert figures.masked == pytest.approx(masked / pairs)
    assert masked > 0
    a_batch = [len(set(row.tolist())) for row in plan.slide[:-1]]
    assert [figures.slides_min, figures.slides_max] == [min(a_batch), max(a_batch)]
    assert figures.slides_median == np.median(a_batch)
    guess = compute_figures(plan, 3, shards.slides, estimate_excluded_shares(shards.slides, NICHE))
    assert guess.masked == pytest.approx(figures.masked, rel=0.2)
    assert not guess.exact


def run(monkeypatch: pytest.MonkeyPatch, *given: object) -> int:
    monkeypatch.setattr(sys, "argv", ["stalign_pl", "plan", *map(str, given)])
    return main()


def test_the_command_prints_the_plan_and_writes_it(
    shards: ShardSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "fit.yaml"
    data = {"shards": str(shards.folder), "val_patients": ["P2"], "composition": {"slides": 2, "spots": 9, "run": 4}}
    config.write_text(yaml.safe_dump({"data": {**data, "niche": {"k": 3}}, "trainer": {"devices": 2}, "model": {}}))
    out = tmp_path / "plan.csv"
    assert run(monkeypatch, "--config", config, "--spots", 10, "--exact", "--out", out, "--epoch", 2) == 0
    printed = capsys.readouterr().out
    for line in (
        "epoch 2                    128 spots of 2 slides",
        "batches                    7",
        "padding                    12 rows of the last batch, 8.57%",
        "slides a batch             2 / 2 / 2 (min, median, max)",
        "rows a rank on 2           10",
    ):
        assert line in printed.splitlines()
    assert "(counted)" in printed
    plan = plan_training({0: 64, 2: 64}, Composition(2, 10, 4), seed=0, epoch=2)
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 128
    first = shards.slides[int(plan.slide[0, 0])]
    wanted = {"batch": "0", "row": "0", "slide": first.record.name, "spot": str(first.spot_of_rank[plan.rank[0, 0]])}
    assert rows[0] == wanted


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (["--devices", "3"], ["1024 spots does not divide by 3 processes", "1023, 1026"]),
        (["--devices", "0"], ["--devices is 0"]),
        (["--slides", "0"], ["composition.slides is 0"]),
        (["--rings", "9"], ["niche.rings", "9 rings"]),
        (["--val-patients", "P9"], ["'P9'"]),
        (["--config", "nowhere.yaml"], ["nowhere.yaml"]),
    ],
)
def test_what_is_wrong_is_named(
    shards: ShardSet,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    given: list[str],
    named: list[str],
) -> None:
    assert run(monkeypatch, "--shards", str(shards.folder), *given) == 1
    line = capsys.readouterr().err
    assert line.startswith("stalign_pl: error: ")
    for text in named:
        assert text in line


@pytest.mark.parametrize(
    ("data", "named"),
    [
        ({"composition": {"slide": 2}}, ["data.composition has no slide", "slides, spots, run"]),
        ({"composition": {"slides": "many"}}, ["data.composition.slides is 'many'", "int"]),
        ({"niche": {"leave_target_out": 3}}, ["data.niche.leave_target_out is 3", "bool"]),
    ],
)
def test_a_wrong_config_is_named(
    shards: ShardSet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    data: dict[str, dict[str, object]],
    named: list[str],
) -> None:
    config = tmp_path / "fit.yaml"
    config.write_text(yaml.safe_dump({"data": {"shards": str(shards.folder), **data}}))
    assert run(monkeypatch, "--config", config) == 1
    line = capsys.readouterr().err
    for text in named:
        assert text in line


def test_it_needs_no_torch(shards: ShardSet) -> None:
    code = (
        "import sys; sys.argv = ['stalign_pl', 'plan', '--shards', sys.argv[1]]; from stalign_pl.__main__ import main; "
        "status = main(); assert not {'torch', 'lightning', 'scipy'} & set(sys.modules); sys.exit(status)"
    )
    subprocess.run([sys.executable, "-c", code, str(shards.folder)], check=True, cwd=REPOSITORY)
