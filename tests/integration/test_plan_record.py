"""What `fit` says and logs of its batches, against counting the plan's rows."""

from __future__ import annotations

from pathlib import Path

import pytest

from stalign_pl.data.epoch.plan import Composition, plan_training
from stalign_pl.data.shards.shard_set import ShardSet
from tests.support.micro_batches import BARE
from tests.support.runs import arguments, logged, run_here


def test_fit_prints_the_plan_and_logs_every_batch_of_it(
    tiny_shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two slides of 64 spots in global batches of 2 x 9 rows: eight of them, the last with 16 rows of padding."""
    given = ("--data.val_patients", "[]", "--data.composition", "{slides: 2, spots: 9, run: 4}")
    assert run_here(*arguments("fit", tiny_shards, tmp_path, *BARE, *given)) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("the plan: ")]
    for text in ("epoch 0: 128 spots of 2 slides", "batches: 8", "padding: 16 rows of the last batch, 11.11%"):
        assert text in line
    assert "masked" not in line
    numbers = {slide.record.name: number for number, slide in ShardSet(tiny_shards).slides.items()}
    sizes = {numbers[name]: 64 for name in ("tiny_1", "tiny_2")}
    plans = [plan_training(sizes, Composition(2, 9, 4), 0, epoch).slide.tolist() for epoch in (0, 1)]
    rows = [row for row in logged(tmp_path / "tiny") if "train/loss" in row]
    assert len(rows) == 16
    for row, batch in zip(rows, plans[0] + plans[1], strict=True):
        assert float(row["train/slides"]) == len(set(batch) - {-1})
        assert float(row["train/padding"]) == pytest.approx(batch.count(-1) / 18)
