"""Dropout drawn by spot, and what draws from a generator."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from stalign_pl.batch.row_keys import RowKeys
from stalign_pl.draws import draw_uniform
from stalign_pl.models import (
    Frozen,
    GeneMLP,
    NicheGeneTransformer,
    SpotDropout,
    TimmStream,
    draws_from_generator,
    keyed_dropout,
)
from stalign_pl.models.attention import Attention
from stalign_pl.models.dropout import number_dropouts
from tests.support.panels import plain_panel

SLIDE, SPOT = torch.tensor([3, 3, 500, 0]), torch.tensor([10, 11, 10, 0])


def keys(seed: int = 5, epoch: int = 2, rows: slice | list[int] = slice(None)) -> RowKeys:
    return RowKeys(seed, epoch, SLIDE[rows], SPOT[rows])


@pytest.mark.parametrize("seed", [5, -1, 2**63 + 11])
def test_the_device_draws_what_the_host_draws(seed: int) -> None:
    host = draw_uniform(seed, 2, SLIDE.numpy(), SPOT.numpy(), 18, 1000)
    for chance in (0.1, 0.5, 0.999):
        np.testing.assert_array_equal(keys(seed).draw_events(chance, 18, 1000).numpy(), host < np.float32(chance))


def test_a_keyed_mask_is_the_formula_forward_and_backward() -> None:
    layer, values = SpotDropout(0.3), torch.randn(4, 3, 50, dtype=torch.float64, requires_grad=True)
    layer.stream = 19
    with keyed_dropout(layer, keys()):
        dropped = layer(values)
    dropped.sum().backward()
    drawn = draw_uniform(5, 2, SLIDE.numpy(), SPOT.numpy(), 19, 150).reshape(4, 3, 50)
    factor = torch.from_numpy(np.where(drawn < 0.3, 0, 1 / 0.7))
    torch.testing.assert_close(dropped, values * factor)
    torch.testing.assert_close(values.grad, factor)


@pytest.mark.parametrize(
    "stream",
    [
        GeneMLP(plain_panel(7), 3, 4, hidden=16, dropout=0.5),
        NicheGeneTransformer(plain_panel(7), 3, 4, dim=10, depth=2, heads=2, head_dim=8, mlp=12, dropout=0.5),
    ],
    ids=["mlp", "transformer"],
)
def test_a_keyed_row_does_not_depend_on_its_batch_or_the_generator(stream: nn.Module) -> None:
    number_dropouts(stream)
    genes, measured = torch.rand(4, 7), torch.ones(4, 7, dtype=torch.bool)
    with keyed_dropout(stream, keys()):
        whole = stream(genes, measured)
    order = [2, 0]
    with keyed_dropout(stream, keys(rows=order)):
        torch.testing.assert_close(stream(genes[order], measured[order]), whole[order])
    with keyed_dropout(stream, keys(epoch=3)):
        assert not torch.allclose(stream(genes, measured), whole)
    assert not torch.allclose(stream(genes, measured), whole)
    drops = [layer for layer in stream.modules() if isinstance(layer, SpotDropout)]
    assert len({layer.stream for layer in drops}) == len(drops)
    assert [layer.keys for layer in drops] == [None] * len(drops)


def test_keyed_attention_without_its_mask_is_the_fused_kernel() -> None:
    torch.manual_seed(0)
    attention, tokens = Attention(6, 3, 4, dropout=1e-9).double(), torch.randn(4, 5, 6).double()
    with keyed_dropout(attention, keys()):
        assert attention.drop_weights.keyed
        keyed = attention(tokens, tokens)
    torch.testing.assert_close(keyed, attention.eval()(tokens, tokens))


def test_keyed_attention_drops_weights() -> None:
    attention, tokens = Attention(6, 3, 4, dropout=0.5), torch.randn(4, 5, 6)
    attention.to_out[1].p = 0.0
    with keyed_dropout(attention, keys()):
        assert not torch.allclose(attention(tokens, tokens), attention.eval()(tokens, tokens), atol=1e-3)


def test_without_keys_it_is_torchs_dropout() -> None:
    layer, values = SpotDropout(0.3), torch.randn(4, 50)
    torch.manual_seed(1)
    found = layer(values)
    torch.manual_seed(1)
    assert torch.equal(found, nn.functional.dropout(values, 0.3))
    with keyed_dropout(layer, keys()):
        assert torch.equal(layer.eval()(values), values)


def test_keys_of_other_rows_are_an_error() -> None:
    with keyed_dropout(layer := SpotDropout(0.3), keys()), pytest.raises(ValueError, match="3 rows"):
        layer(torch.ones(3, 2))


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (lambda: nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.1)), True),
        (lambda: nn.Sequential(nn.Dropout(0.0), SpotDropout(0.1)), False),
        (lambda: nn.AlphaDropout(0.1), True),
        (lambda: Frozen(nn.Dropout(0.1)), False),
        (lambda: TimmStream(2, 4, "test_convnext", size=32), False),
        (lambda: TimmStream(2, 4, "test_convnext", size=32, model_args={"drop_path_rate": 0.1}), True),
        (lambda: TimmStream(2, 4, "test_convnext", size=32, model_args={"drop_path_rate": 0.1}, trains="none"), False),
        (lambda: TimmStream(2, 4, "test_vit", size=32, model_args={"attn_drop_rate": 0.1}), True),
        (lambda: TimmStream(2, 4, "test_vit", size=32, model_args={"patch_drop_rate": 0.5}), True),
    ],
)
def test_what_draws_from_a_generator_is_found(module: Callable[[], nn.Module], expected: bool) -> None:
    assert draws_from_generator(module()) is expected
