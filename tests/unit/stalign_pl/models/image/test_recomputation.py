"""Gradient checkpointing: the gradient of the plain backward pass, whatever draws."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from stalign_pl.batch.row_keys import RowKeys
from stalign_pl.errors import ConfigError
from stalign_pl.models import LastBlocks, LowRank, LowRankLinear, TimmStream, keyed_dropout
from stalign_pl.models.dropout import number_dropouts

KEYS = RowKeys(5, 2, torch.tensor([3, 3, 500, 0]), torch.tensor([10, 11, 10, 0]))
IMAGES = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def gradients(
    checkpointing: bool, keys: RowKeys | None, monkeypatch: pytest.MonkeyPatch, **options: object
) -> tuple[list[torch.Tensor | None], int]:
    """Of one step, and how often a block was computed with its inside to be computed again."""
    counted, inside = [], lambda *given, **how: (counted.append(1), checkpoint(*given, **how))[1]
    monkeypatch.setattr(torch.utils.checkpoint, "checkpoint", inside)
    torch.manual_seed(3)
    stream = TimmStream(2, 4, size=32, gradient_checkpointing=checkpointing, **options).train()
    number_dropouts(stream)
    for layer in [part for part in stream.modules() if isinstance(part, LowRankLinear)]:
        nn.init.normal_(layer.adapter[2].weight)
    torch.manual_seed(4)
    with keyed_dropout(stream, keys):
        stream(IMAGES).square().sum().backward()
    return [p.grad for p in stream.parameters() if p.requires_grad], len(counted)


@pytest.mark.parametrize(
    ("options", "keys"),
    [
        ({"name": "test_vit", "trains": LowRank(2, dropout=0.5)}, KEYS),
        ({"name": "test_vit", "trains": LowRank(2, dropout=0.5)}, None),
        ({"name": "test_vit", "model_args": {"proj_drop_rate": 0.3, "drop_path_rate": 0.2}}, None),
        ({"name": "test_vit", "trains": LastBlocks(2)}, None),
        ({"name": "test_efficientnet_gn"}, None),
    ],
    ids=["keyed adapters", "adapters", "timm's dropout", "last blocks", "groupnorm"],
)
def test_the_gradient_is_that_of_the_plain_backward_pass(
    options: dict[str, object], keys: RowKeys | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, none = gradients(False, keys, monkeypatch, **options)
    found, blocks = gradients(True, keys, monkeypatch, **options)
    assert none == 0
    assert blocks > 0
    assert all(gradient.any() for gradient in plain)
    torch.testing.assert_close(found, plain, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"name": "test_resnet"}, "BatchNorm in training"),
        ({"name": "test_vit", "trains": "none"}, "trains: none nothing is kept"),
        ({"name": "vgg11"}, "does not offer for VGG"),
    ],
)
def test_what_cannot_be_computed_again_is_refused(options: dict[str, object], said: str) -> None:
    with torch.device("meta"), pytest.raises(ConfigError, match=f"{options['name']}.*{said}"):
        TimmStream(2, 4, size=32, gradient_checkpointing=True, **options)
