"""The contrasts against loops, in value and gradient, in chunks of any size."""

from __future__ import annotations

import pytest
import torch

from stalign_pl.batch.spot_ids import SpotIds
from stalign_pl.distributed import World
from stalign_pl.errors import ConfigError
from stalign_pl.objectives import PairedNegatives, Pairs, paired_info_nce, pairwise_sigmoid, symmetric_info_nce
from tests.support import loss_reference as reference
from tests.support.loss_reference import batch_ids

CONTRASTS = ("info_nce", "sigmoid", "paired")


def inputs(rows: int, seed: int, dim: int = 5) -> list[torch.Tensor]:
    """a, b, log_scale, bias."""
    generator = torch.Generator().manual_seed(seed)
    tensors = [torch.randn(rows, dim, generator=generator, dtype=torch.float64) for _ in range(2)]
    scalars = [torch.tensor(value, dtype=torch.float64) for value in (1.7, -1.3)]
    return [tensor.requires_grad_() for tensor in (*tensors, *scalars)]


def loss_of(name: str, given: list[torch.Tensor], pairs: Pairs) -> torch.Tensor:
    a, b, log_scale, bias = given
    if name == "info_nce":
        return symmetric_info_nce(a, b, log_scale, pairs).loss
    if name == "sigmoid":
        return pairwise_sigmoid(a, b, log_scale, bias, pairs).loss
    return paired_info_nce(a, b, log_scale, pairs, PairedNegatives.draw(pairs)).loss


def expected_of(name: str, given: list[torch.Tensor], ids: SpotIds, other_slides: float) -> torch.Tensor:
    a, b, log_scale, bias = given
    if name == "info_nce":
        return reference.info_nce(a, b, log_scale, ids, other_slides)
    if name == "sigmoid":
        return reference.sigmoid(a, b, log_scale, bias, ids, other_slides)
    return reference.paired(a, b, log_scale, ids)


def trained(name: str, given: list[torch.Tensor]) -> list[torch.Tensor]:
    """What the loss has a gradient for."""
    return given if name == "sigmoid" else given[:3]


@pytest.mark.parametrize("chunk", [5, 100])
@pytest.mark.parametrize(
    ("name", "other_slides"),
    [*((name, weight) for name in ("info_nce", "sigmoid") for weight in (1.0, 0.3, 0.0)), ("paired", 0.0)],
)
@pytest.mark.parametrize(("seed", "padding"), [(0, ()), (1, (3,)), (2, (0, 5, 11)), (3, (11,))])
def test_value_and_gradient_equal_the_loops(
    seed: int, padding: tuple[int, ...], name: str, other_slides: float, chunk: int
) -> None:
    given = inputs(12, seed)
    ids = batch_ids(12, seed, padding=padding)
    pairs = Pairs(ids, World(), other_slides, chunk)
    masks = [pairs.masks(rows) for rows in pairs.chunks]
    assert len(masks) == (3 if chunk == 5 else 1)
    assert any((part.same_slide & ~part.contrasted).any() for part in masks), "the batch should mask some neighbours"
    loss, expected = loss_of(name, given, pairs), expected_of(name, given, ids, other_slides)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)
    got, want = (torch.autograd.grad(value, trained(name, given)) for value in (loss, expected))
    torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", CONTRASTS)
def test_chunks_of_any_size_round_alike_in_float32(name: str) -> None:
    """96 rows of 32 in chunks of 1, 7 and 32 against all at once; gradients scaled as a loss scaler does."""
    given = [tensor.detach().float().requires_grad_() for tensor in inputs(96, 8, dim=32)]
    found = []
    for chunk in (96, 1, 7, 32):
        loss = loss_of(name, given, Pairs(batch_ids(96, 8, padding=(5, 95)), World(), chunk=chunk))
        found.append((loss, *torch.autograd.grad(1024 * loss, trained(name, given))))
    assert all(gradient.abs().max() > 1e-2 for gradient in found[0][1:])
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=1e-5, atol=1e-5)


def test_the_weight_of_other_slides_runs_from_the_own_slide_to_all() -> None:
    given, ids = inputs(12, 1), batch_ids(12, 1)
    for name in ("info_nce", "sigmoid"):
        losses = [loss_of(name, given, Pairs(ids, World(), weight)).item() for weight in (0, 1e-9, 0.5, 1 - 1e-9, 1)]
        assert losses == sorted(losses)
        assert losses[1] == pytest.approx(losses[0], rel=1e-7)
        assert losses[3] == pytest.approx(losses[4], rel=1e-7)
        assert losses[4] > losses[2] + 0.01 > losses[0] + 0.02


@pytest.mark.parametrize("name", CONTRASTS)
def test_what_stands_in_padding_rows_changes_nothing(name: str) -> None:
    given = inputs(12, 4)
    pairs = Pairs(batch_ids(12, 4, padding=(2, 7)), World())
    clean = torch.autograd.grad(loss_of(name, given, pairs), trained(name, given))
    with torch.no_grad():
        given[0][2], given[1][7] = float("nan"), float("inf")
    dirty = torch.autograd.grad(loss_of(name, given, pairs), trained(name, given))
    torch.testing.assert_close(dirty, clean, rtol=0, atol=0)
    assert not dirty[0][[2, 7]].any()


@pytest.mark.parametrize("name", CONTRASTS)
def test_a_batch_of_padding_alone_costs_nothing(name: str) -> None:
    given = inputs(4, 5)
    loss = loss_of(name, given, Pairs(batch_ids(4, 5, padding=range(4)), World()))
    assert loss.item() == 0
    assert not any(gradient.any() for gradient in torch.autograd.grad(loss, trained(name, given)))


@pytest.mark.parametrize("name", CONTRASTS)
def test_a_value_that_is_not_finite_in_a_valid_row_shows(name: str) -> None:
    given = inputs(12, 0)
    with torch.no_grad():
        given[0][3, 0] = float("nan")
    assert loss_of(name, given, Pairs(batch_ids(12, 0), World())).isnan()


@pytest.mark.parametrize("name", ["info_nce", "sigmoid"])
def test_excluded_neighbours_change_the_loss(name: str) -> None:
    given = inputs(12, 0)
    losses = [loss_of(name, given, Pairs(batch_ids(12, 0, listed=listed), World())) for listed in (4, 0)]
    assert losses[0] < losses[1]


@pytest.mark.parametrize("name", CONTRASTS)
def test_bfloat16_autocast_changes_nothing(name: str) -> None:
    given = [tensor.detach().float() for tensor in inputs(8, 6)]
    pairs = Pairs(batch_ids(8, 6), World())
    with torch.autocast("cpu", torch.bfloat16):
        assert (given[0] @ given[1].T).dtype == torch.bfloat16
        loss = loss_of(name, given, pairs)
        from_half = loss_of(name, [given[0].bfloat16(), given[1].bfloat16(), *given[2:]], pairs)
    assert loss.dtype == from_half.dtype == torch.float32
    assert torch.equal(loss, loss_of(name, given, pairs))


def test_a_large_scale_does_not_overflow() -> None:
    """Opposite partners at 1 / temperature = 100: exp(200) is no float32."""
    a = torch.eye(6).requires_grad_()
    pairs = Pairs(batch_ids(6, 0, slides=1, listed=0), World())
    loss = symmetric_info_nce(a, -a, torch.tensor(100.0).log(), pairs).loss
    loss.backward()
    assert loss.item() == pytest.approx(100, abs=2)  # 0 against -100, and the log of five or fewer rivals
    assert a.grad.isfinite().all()


def test_paired_negatives_follow_the_rule_whatever_the_chunks() -> None:
    """By loops; among the batches are clusters without a candidate, and anchors without any."""
    substitutes = empty = 0
    for seed in range(30):
        ids = batch_ids(14, seed, padding=(2,))
        found = {chunk: PairedNegatives.draw(Pairs(ids, World(), chunk=chunk)) for chunk in (100, 3)}
        for negatives in found.values():
            for i in range(14):
                wanted = reference.paired_columns(i, ids) if ids.valid[i] else []
                assert negatives.column[i][negatives.present[i]].tolist() == wanted
        substitutes += found[100].substitute.sum().item()
        empty += (~found[100].present.any(1)).sum().item()
    assert substitutes > 20
    assert empty > 30  # padding is one a batch


def test_draws_decide_and_every_candidate_can_be_drawn() -> None:
    rows = 12
    ids = SpotIds(
        torch.zeros(rows, dtype=torch.int64),
        torch.arange(rows),
        torch.full((rows, 1), -1),
        torch.ones(rows, dtype=torch.bool),
        torch.arange(rows) % 3,
        torch.rand(rows, 3, generator=torch.Generator().manual_seed(0)),
    )
    seen = set()
    for draw in torch.linspace(0, 1 - 2**-24, 41):
        drawn = SpotIds(ids.slide, ids.spot, ids.excluded, ids.valid, ids.cluster, draw.expand(rows, 3))
        negatives = PairedNegatives.draw(Pairs(drawn, World()))
        assert negatives.present.sum(1).tolist() == [2] * rows
        assert not negatives.substitute.any()
        seen.add(tuple(negatives.column[0][negatives.present[0]].tolist()))
    assert seen == {(1, 2), (4, 5), (7, 8), (10, 11)}


@pytest.mark.parametrize("missing", ["cluster", "draws"])
def test_paired_negatives_without_clusters_are_refused_by_the_key_to_set(missing: str) -> None:
    ids = batch_ids(6, 0)
    fields = {name: getattr(ids, name) for name in ("slide", "spot", "excluded", "valid", "cluster", "draws")}
    with pytest.raises(ConfigError, match=r"set data\.clusters to a file of `python -m stalign_pl clusters"):
        PairedNegatives.draw(Pairs(SpotIds(**{**fields, missing: None}), World()))
