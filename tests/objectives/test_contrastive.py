"""Symmetric InfoNCE against loops, in value and gradient."""

import pytest
import torch

from stalign_pl.objectives import Pairs, World, symmetric_info_nce
from tests.objectives.reference import batch_ids, info_nce


def inputs(rows, seed, dim=5):
    generator = torch.Generator().manual_seed(seed)
    tensors = [torch.randn(rows, dim, generator=generator, dtype=torch.float64) for _ in range(2)]
    return [tensor.requires_grad_() for tensor in (*tensors, torch.tensor(1.7, dtype=torch.float64))]


@pytest.mark.parametrize("same_slide_only", [False, True])
@pytest.mark.parametrize(("seed", "padding"), [(0, ()), (1, (3,)), (2, (0, 5, 11)), (3, (11,))])
def test_value_and_gradient_equal_the_loops(seed, padding, same_slide_only):
    a, b, log_scale = inputs(12, seed)
    ids = batch_ids(12, seed, padding=padding)
    pairs = Pairs.of(ids, World(), same_slide_only)
    assert (pairs.other & pairs.same_slide & ~pairs.contrasted).any(), "the batch should mask some neighbours"
    loss = symmetric_info_nce(a, b, log_scale, pairs).loss
    expected = info_nce(a, b, log_scale, ids, same_slide_only)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)
    for got, want in zip(
        torch.autograd.grad(loss, [a, b, log_scale]), torch.autograd.grad(expected, [a, b, log_scale]), strict=True
    ):
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-12)


def test_what_stands_in_padding_rows_changes_nothing():
    a, b, log_scale = inputs(12, 4)
    pairs = Pairs.of(batch_ids(12, 4, padding=(2, 7)), World())
    clean = torch.autograd.grad(symmetric_info_nce(a, b, log_scale, pairs).loss, [a, b, log_scale])
    with torch.no_grad():
        a[2], b[7] = float("nan"), float("inf")
    dirty = torch.autograd.grad(symmetric_info_nce(a, b, log_scale, pairs).loss, [a, b, log_scale])
    for got, want in zip(dirty, clean, strict=True):
        torch.testing.assert_close(got, want, rtol=0, atol=0)
    assert not dirty[0][[2, 7]].any()


def test_a_batch_of_padding_alone_costs_nothing():
    a, b, log_scale = inputs(4, 5)
    loss = symmetric_info_nce(a, b, log_scale, Pairs.of(batch_ids(4, 5, padding=range(4)), World())).loss
    assert loss.item() == 0
    assert not any(gradient.any() for gradient in torch.autograd.grad(loss, [a, b, log_scale]))


def test_excluded_neighbours_change_the_loss():
    a, b, log_scale = inputs(12, 0)
    with_lists, without = batch_ids(12, 0), batch_ids(12, 0, listed=0)
    losses = [symmetric_info_nce(a, b, log_scale, Pairs.of(ids, World())).loss for ids in (with_lists, without)]
    assert losses[0] < losses[1]


def test_logits_are_float32_under_bfloat16_autocast():
    a, b, log_scale = (tensor.detach().float() for tensor in inputs(8, 6))
    pairs = Pairs.of(batch_ids(8, 6), World())
    exact = symmetric_info_nce(a, b, log_scale, pairs)
    with torch.autocast("cpu", torch.bfloat16):
        assert (a @ b.T).dtype == torch.bfloat16
        contrast = symmetric_info_nce(a, b, log_scale, pairs)
        from_half = symmetric_info_nce(a.bfloat16(), b.bfloat16(), log_scale, pairs)
    assert contrast.logits_ab.dtype == contrast.logits_ba.dtype == contrast.loss.dtype == torch.float32
    assert torch.equal(contrast.logits_ab, exact.logits_ab)
    assert from_half.logits_ab.dtype == torch.float32
