"""Rows of an evaluation pass, of one process and of two: all valid ones, once, by slide and spot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from stalign_pl.callbacks.collected import Collected, Table
from stalign_pl.training.evaluation_step import EvaluatedBatch

ROWS = 4
"""Rows of a process's batch."""


def step(slide: list[int], spot: list[int], valid: list[bool]) -> EvaluatedBatch:
    """A batch whose embeddings tell its rows apart; no fusion."""
    slides, spots = torch.tensor(slide), torch.tensor(spot)
    image = torch.stack((slides, spots, slides * spots), dim=1).float()
    return EvaluatedBatch(slides, spots, torch.tensor(valid), None, None, image, image[:, :2], None)


def steps() -> list[EvaluatedBatch]:
    """Three batches of eight rows; the last is padded with rows of no spot."""
    order = np.random.default_rng(0).permutation(22)
    slide, spot = [*(order // 13 + 3).tolist(), 0, 0], [*(order % 13).tolist(), 0, 0]
    valid = [True] * 22 + [False] * 2
    return [step(slide[at : at + 2 * ROWS], spot[at : at + 2 * ROWS], valid[at : at + 2 * ROWS]) for at in (0, 8, 16)]


def part(output: EvaluatedBatch, rows: slice) -> EvaluatedBatch:
    return EvaluatedBatch(**{name: value if value is None else value[rows] for name, value in vars(output).items()})


def assert_whole(table: Table | None) -> None:
    assert table is not None
    assert sorted(table.columns) == ["image", "slide", "spot", "spot_pair"]
    assert [table.has(name) for name in ("image", "spot_pair", "niche")] == [True, True, False]
    for slide, spots in ((3, 13), (4, 9)):
        assert table.spots(slide).tolist() == list(range(spots))
        assert table.of(slide, "image").tolist() == [[slide, spot, slide * spot] for spot in range(spots)]
        assert table.of(slide, "spot_pair").dtype == np.float32
    assert table.spots(0).tolist() == []


def collect(rows: slice) -> list[Table | None]:
    """What two passes after each other give, and one without a batch."""
    collected = Collected(("image", "spot_pair", "niche")).to(torch.device("cpu"))
    found = []
    for _ in range(2):
        for output in steps():
            collected.update(part(output, rows))
        found.append(collected.gather())
    return [*found, collected.gather()]


def test_all_valid_rows_come_once_in_order() -> None:
    *found, none = collect(slice(None))
    for table in found:
        assert_whole(table)
    assert none is None


def test_a_pass_of_one_row() -> None:
    collected = Collected(("image",))
    collected.update(step([2], [7], [True]))
    table = collected.gather()
    assert table is not None
    assert table.of(2, "image").tolist() == [[2.0, 7.0, 14.0]]


def test_what_is_kept_has_no_gradient() -> None:
    collected = Collected(("image",))
    output = step([2, 2], [7, 8], [True, True])
    image = torch.ones(2, 3, requires_grad=True)
    collected.update(EvaluatedBatch(output.slide, output.spot, output.valid, None, None, image, None, None))
    kept: list[Tensor] = collected.metric_state["image"]
    assert not kept[0].requires_grad


def run_rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    *found, none = collect(slice(rank * ROWS, (rank + 1) * ROWS))
    for table in found:
        assert_whole(table)
    assert none is None
    dist.barrier()
    dist.destroy_process_group()
    (Path(folder) / str(rank)).touch()


def test_two_processes_both_have_the_rows_of_both(tmp_path: Path) -> None:
    context = mp.spawn(run_rank, (str(tmp_path),), nprocs=2, join=False)
    while not context.join(timeout=120):
        pass
    assert [process.exitcode for process in context.processes] == [0, 0]
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "store") == ["0", "1"]
