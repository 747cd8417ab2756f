"""A compiled model, and one with channels last, against the plain one: embeddings, loss, gradients, keys."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from stalign_pl.batch.row_keys import RowKeys
from stalign_pl.batch.spot_ids import SpotIds
from stalign_pl.errors import ConfigError
from stalign_pl.models import Gated, GeneMLP, NicheGeneTransformer, STAlign, TimmStream, keyed_dropout
from stalign_pl.objectives import ThreeLevelLoss
from stalign_pl.training.execution import Execution, apply_execution
from tests.support.small_model import batch, small
from tests.support.traced_backend import TRACED

ROWS = 6
EVERY = torch.arange(ROWS)
IDS = SpotIds(torch.zeros_like(EVERY), EVERY, torch.full((ROWS, 1), -1), torch.ones(ROWS, dtype=torch.bool))


def model() -> STAlign:
    torch.manual_seed(2)
    return small(
        niche_image=partial(TimmStream, name="test_vit", size=48, trains="none"),
        spot_gene=partial(GeneMLP, hidden=16, dropout=0.3),
        niche_gene=partial(NicheGeneTransformer, dim=12, depth=1, heads=2, head_dim=4, mlp=16, dropout=0.2),
    )


def trained(model: STAlign) -> dict[str, Tensor]:
    """Loss, its gradients, and the embeddings in eval mode; dropout drawn by spot."""
    inputs = batch(ROWS)
    with keyed_dropout(model.train(), RowKeys(5, 1, IDS.slide, IDS.spot)):
        loss = ThreeLevelLoss()(model(inputs), IDS).total
    loss.backward()
    found = {"loss": loss.detach()}
    found |= {name: each.grad for name, each in model.named_parameters() if each.grad is not None}
    with torch.inference_mode():
        return found | vars(model.eval()(inputs))


def test_compiled_it_is_the_same_model() -> None:
    plain = model()
    compiled = copy.deepcopy(plain)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    apply_execution(compiled, Execution(compile=True, backend=TRACED))
    assert compiled.state_dict().keys() == plain.state_dict().keys()
    expected, found = trained(plain), trained(compiled)
    assert len(expected) > 50
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert torch._dynamo.utils.counters["frames"]["ok"] > 0


def test_compiled_gates_lose_the_same_modalities() -> None:
    plain = small(fusion=partial(Gated, out=20, drop_modality=0.5))
    compiled = copy.deepcopy(plain)
    torch._dynamo.reset()
    apply_execution(compiled, Execution(compile=True, backend=TRACED))
    expected, found = trained(plain), trained(compiled)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_channels_last_gives_the_same_embeddings(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = small(spot_image=partial(TimmStream, name="test_efficientnet_gn", size=32))
    other = copy.deepcopy(plain)
    apply_execution(other, Execution(channels_last=True))
    met: list[bool] = []

    def look(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        met.append(all(each.is_contiguous(memory_format=torch.channels_last) for each in (*inputs, layer.weight)))

    convolutions = [layer for layer in other.modules() if isinstance(layer, nn.Conv2d) and layer.in_channels > 1]
    for layer in convolutions:
        layer.register_forward_pre_hook(look)
    expected, found = trained(plain), trained(other)
    assert len(met) > 10
    assert all(met)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_an_unknown_backend_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"backend is 'inducter'; known here: .*inductor"):
        Execution(compile=True, backend="inducter")
