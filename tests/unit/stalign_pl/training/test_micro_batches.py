"""The loss in micro-batches against the loss of the whole batch, in float64: values and every gradient."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from stalign_pl.batch.spot_ids import SpotIds
from stalign_pl.errors import ConfigError
from stalign_pl.objectives.three_level import LossTerms
from stalign_pl.training.micro_batches import compute_loss_by_parts, split_rows
from tests.support.loss_reference import part
from tests.support.towers import LOCAL, Towers, global_batch, outcome

ROWS = 12

INFO_NCE = ("info_nce", {"other_slides": 1.0})


class DroppingTowers(Towers):
    """As `Towers`; dropout by the generator, and by numpy's."""

    def __init__(self) -> None:
        super().__init__("info_nce", {"other_slides": 1.0})
        self.drop = nn.Dropout(0.4)

    def embed(self, features: torch.Tensor) -> SimpleNamespace:
        features = self.drop(features) * torch.empty(()).uniform_(0.5, 1.5)
        return SimpleNamespace(**{name: tower(features) for name, tower in self.towers.items()})


class ByParts(Towers):
    """Goes through all parts within its forward, as the training step does within DDP's."""

    def forward(self, features: torch.Tensor, ids: SpotIds, size: int) -> LossTerms:
        def embed(rows: slice) -> SimpleNamespace:
            return SimpleNamespace(**{name: tower(features[rows]) for name, tower in self.towers.items()})

        parts = split_rows(len(ids), size)
        return compute_loss_by_parts(
            embed, lambda all_: self.loss(all_, ids), self.loss.parameters(), parts, torch.Tensor.backward
        )


def close(found: dict[str, dict[str, torch.Tensor]], expected: dict[str, dict[str, torch.Tensor]]) -> None:
    assert found["gradients"].keys() == expected["gradients"].keys()
    torch.testing.assert_close(found["gradients"], expected["gradients"], rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(found["values"], expected["values"], rtol=1e-12, atol=0)
    torch.testing.assert_close(found["diagnostics"], expected["diagnostics"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", [1, 2, 5, 10])
def test_any_micro_batch_has_the_gradient_of_the_whole_batch(size: int) -> None:
    features, ids = global_batch(2, padding=(1, 7, 8))
    whole, parted = Towers(*INFO_NCE), ByParts(*INFO_NCE)
    expected = outcome(whole, whole(features, ids))
    assert all(gradient.abs().max() > 1e-6 for gradient in expected["gradients"].values())
    close(outcome(parted, parted(features, ids, size)), expected)


def test_the_second_pass_repeats_the_first_ones_draws() -> None:
    """The reference keeps the graphs of all parts; torch's generator goes on as after a single pass."""
    features, ids = global_batch(2, padding=())
    model, parts = DroppingTowers(), split_rows(10, 2)
    torch.manual_seed(3)
    embedded = [model.embed(features[rows]) for rows in parts]
    joined = {name: torch.cat([getattr(one, name) for one in embedded]) for name in vars(embedded[0])}
    expected, next_draw = outcome(model, model.loss(SimpleNamespace(**joined), ids)), torch.rand(1)
    again = DroppingTowers()
    torch.manual_seed(3)
    terms = compute_loss_by_parts(
        lambda rows: again.embed(features[rows]),
        lambda embeddings: again.loss(embeddings, ids),
        again.loss.parameters(),
        parts,
        torch.Tensor.backward,
        check=True,
    )
    close(outcome(again, terms), expected)
    assert torch.rand(1) == next_draw


def test_a_model_whose_second_pass_differs_is_refused() -> None:
    features, ids = global_batch(2, padding=())
    model, own = DroppingTowers().eval(), torch.Generator().manual_seed(0)

    def embed(rows: slice) -> SimpleNamespace:
        return model.embed(features[rows] + torch.randn(6, generator=own, dtype=torch.float64))

    with pytest.raises(ConfigError, match=r"micro_batch: a second forward pass .* \(spot_image, spot_gene"):
        compute_loss_by_parts(
            embed, lambda all_: model.loss(all_, ids), [], split_rows(10, 5), torch.Tensor.backward, True
        )


@pytest.mark.parametrize(("size", "near"), [(5, "4, 6"), (7, "6, 12"), (0, "1"), (13, "12"), (-2, "1")])
def test_a_size_that_does_not_divide_is_refused_with_the_nearest_that_do(size: int, near: str) -> None:
    with pytest.raises(ConfigError, match=rf"micro_batch is {size}: .* the 12 rows .* nearest that do: {near}$"):
        split_rows(ROWS, size)


def test_parts_cover_the_rows_and_null_is_one() -> None:
    assert split_rows(ROWS, None) == [slice(0, 12)]
    assert split_rows(ROWS, 4) == [slice(0, 4), slice(4, 8), slice(8, 12)]


def run_rank(rank: int, size: int, folder: str, padding: Sequence[int]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=size)
    steps(rank, size, folder, padding)
    gc.collect()  # as in test_distributed
    dist.barrier()
    dist.destroy_process_group()


def steps(rank: int, size: int, folder: str, padding: Sequence[int]) -> None:
    """Two steps, for DDP builds its buckets anew after the first; what was reduced in each is counted."""
    rows = slice(rank * LOCAL, (rank + 1) * LOCAL)
    features, ids = global_batch(size, padding)
    model, reduced = nn.parallel.DistributedDataParallel(ByParts(*INFO_NCE)), []

    def counting(state: object, bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:
        reduced.append(bucket.buffer().numel())
        return dist.all_reduce(bucket.buffer() / size, async_op=True).get_future().then(lambda done: done.value()[0])

    # DDP would compare the hook's own annotations, which are text here, with the classes
    model.register_comm_hook(None, lambda state, bucket: counting(state, bucket))
    for _ in range(2):
        model.zero_grad()
        reduced.clear()
        found = outcome(model, model(features[rows], part(ids, rows), 1))
    torch.save({**found, "reduced": sum(reduced)}, Path(folder) / f"{rank}.pt")


def test_two_ranks_in_micro_batches_equal_one_process_on_the_global_batch(tmp_path: Path) -> None:
    padding = (1, 7, 8)
    mp.spawn(run_rank, (2, str(tmp_path), padding), nprocs=2)
    whole = Towers(*INFO_NCE)
    expected = outcome(whole, whole(*global_batch(2, padding)))
    assert "loss.log_scale" in expected["gradients"]
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert found.pop("reduced") == sum(parameter.numel() for parameter in whole.parameters())
        close(found, expected)
