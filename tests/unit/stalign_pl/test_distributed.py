"""Several gloo processes under DDP against one process on the concatenated batch: values and every gradient."""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from stalign_pl.distributed import World, all_gather, gather_objects, gather_parts
from tests.support.loss_reference import part
from tests.support.towers import LOCAL, Towers, global_batch, outcome

WEIGHTS = ({"other_slides": 1.0}, {"other_slides": 0.4}, {"other_slides": 0.0})
MODES = [*((kind, weight) for kind in ("info_nce", "sigmoid") for weight in WEIGHTS), ("paired", {})]
"""Every loss with every way of choosing negatives."""


Case = tuple[Sequence[int], str, Mapping[str, float]]
"""Padding rows of the global batch, kind of loss, its options."""


def run_rank(rank: int, size: int, folder: str, cases: Sequence[Case]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=size)
    check_gathers(rank, size)
    run_cases(rank, size, folder, cases)
    # DDP holds the group. While it does, gloo's threads outlive `destroy_process_group`, and one that drops a tensor
    # while the interpreter goes down ends the process ("terminate called without an active exception").
    gc.collect()
    dist.barrier()
    dist.destroy_process_group()


def check_gathers(rank: int, size: int) -> None:
    """Each rank's own, in rank order; a failure ends the process with a status that the test looks at."""
    world = World.current()
    assert world == World(rank, size)
    assert gather_objects(["rank", rank], world) == [["rank", other] for other in range(size)]
    for dtype in (torch.float32, torch.int64, torch.bool):
        given = [torch.tensor([[other, 1], [0, other]]).T.to(dtype) for other in range(size)]
        parts = gather_parts(given[rank], world)
        assert {part.dtype for part in parts} == {dtype}
        assert all(torch.equal(part, expected) for part, expected in zip(parts, given, strict=True))


def test_a_process_alone_gathers_what_it_has() -> None:
    own, rows = ["only"], torch.ones(2, requires_grad=True)
    assert gather_objects(own, World()) == [own]
    (part,) = gather_parts(rows, World())
    assert part.tolist() == [1.0, 1.0]
    assert not part.requires_grad
    assert all_gather(rows, World()) is rows


def run_cases(rank: int, size: int, folder: str, cases: Sequence[Case]) -> None:
    rows = slice(rank * LOCAL, (rank + 1) * LOCAL)
    for number, (padding, kind, options) in enumerate(cases):
        features, ids = global_batch(size, padding)
        model = nn.parallel.DistributedDataParallel(Towers(kind, options))
        torch.save(outcome(model, model(features[rows], part(ids, rows))), Path(folder) / f"{number}-{rank}.pt")


def cases_of(paddings: Sequence[tuple[tuple[int, ...], int]]) -> list[Case]:
    """Every mode with every padding, in one chunk a rank and in chunks of two rows."""
    return [(padding, kind, {**options, "chunk": chunk}) for padding, chunk in paddings for kind, options in MODES]


@pytest.mark.parametrize(
    ("size", "cases"),
    [
        (2, cases_of([((1, 7, 8), 1024), ((5, 6, 7, 8, 9), 2)])),  # in the second, rank 1 holds nothing but padding
        pytest.param(4, cases_of([((0, 18, 19), 2)]), marks=pytest.mark.long),
    ],
)
def test_ranks_equal_one_process_on_the_global_batch(size: int, cases: Sequence[Case], tmp_path: Path) -> None:
    context = mp.spawn(run_rank, (size, str(tmp_path), cases), nprocs=size, join=False)
    while not context.join(timeout=120):
        pass
    assert [process.exitcode for process in context.processes] == [0] * size
    assert len(list(tmp_path.glob("*.pt"))) == size * len(cases)
    for number, (padding, kind, options) in enumerate(cases):
        model = Towers(kind, {**options, "chunk": 1024})
        expected = outcome(model, model(*global_batch(size, padding)))
        assert {"loss.log_scale"} <= expected["gradients"].keys()
        assert ("loss.bias" in expected["gradients"]) == (kind == "sigmoid")
        assert all(gradient.abs().max() > 1e-6 for gradient in expected["gradients"].values())
        for rank in range(size):
            got = torch.load(tmp_path / f"{number}-{rank}.pt", weights_only=True)
            assert got["gradients"].keys() == expected["gradients"].keys()
            torch.testing.assert_close(got["gradients"], expected["gradients"], rtol=1e-10, atol=1e-12)
            torch.testing.assert_close(got["values"], expected["values"], rtol=1e-12, atol=0)
            torch.testing.assert_close(got["diagnostics"], expected["diagnostics"], rtol=1e-5, atol=1e-6)
