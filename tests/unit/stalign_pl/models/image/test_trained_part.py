"""Trainable parts of a backbone: its last blocks, low-rank adapters; what a checkpoint then keeps."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from stalign_pl.errors import ConfigError
from stalign_pl.models import Frozen, LastBlocks, LowRank, LowRankLinear, TimmStream, draws_from_generator
from stalign_pl.models.image.trained_part import Trains

VIT = "test_vit"  # six blocks of width 64, MLP 3 x 64


def stream_of(name: str, trains: Trains, **more: object) -> TimmStream:
    torch.manual_seed(3)
    return TimmStream(2, 4, name=name, size=32, trains=trains, **more)


def images(rows: int = 4) -> torch.Tensor:
    return torch.rand(rows, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def step(stream: TimmStream) -> set[str]:
    """One step of gradient descent; which state-dict entries of the backbone it changed."""
    before = copy.deepcopy(stream.backbone.state_dict())
    stream(images()).square().sum().backward()
    torch.optim.SGD([p for p in stream.parameters() if p.requires_grad], lr=1.0).step()
    return {key for key, value in stream.backbone.state_dict().items() if not torch.equal(value, before[key])}


@pytest.mark.parametrize(
    ("name", "last", "learning", "blocks"),
    [
        (VIT, 2, ("module.blocks.4.", "module.blocks.5.", "module.norm."), 6),
        ("test_resnet", 1, ("module.layer4.",), 4),  # with BatchNorm, whose statistics count
        ("test_efficientnet_gn", 1, ("module.blocks.4.", "module.conv_head.", "module.bn2."), 5),
    ],
)
def test_the_last_blocks_are_trainable_and_the_rest_frozen(
    name: str, last: int, learning: tuple[str, ...], blocks: int
) -> None:
    given = {"zero_init_last": False} if name == "test_resnet" else {}  # else its last gain of 0 stops the gradient
    stream = stream_of(name, LastBlocks(last), model_args=given).train()
    changed = step(stream)
    assert {key for key in stream.backbone.state_dict() if key.startswith(learning)} == changed
    norms = [(name, part) for name, part in stream.backbone.named_modules() if isinstance(part, nn.BatchNorm2d)]
    assert all(part.training == name.startswith(learning) for name, part in norms)
    assert not any(part.training for part in stream.eval().modules())
    with pytest.raises(ConfigError, match=f"{name}.*trains.last is 9; it has {blocks} blocks"):
        stream_of(name, LastBlocks(9))


def test_adapters_are_trainable_beside_a_frozen_backbone() -> None:
    stream = stream_of(VIT, LowRank(rank=3)).train()
    layers = [part for part in stream.modules() if isinstance(part, LowRankLinear)]
    assert len(layers) == 6 * 4  # qkv, proj, fc1, fc2
    learning = sum(p.numel() for p in stream.backbone.parameters() if p.requires_grad)
    assert learning == 6 * 3 * ((64 + 192) + (64 + 64) + (64 + 192) + (192 + 64))
    plain = stream_of(VIT, "none")
    assert torch.equal(stream.features(images()), plain.features(images()))  # U starts at 0
    assert step(stream) == {key for key in stream.backbone.state_dict() if ".adapter.2." in key}
    assert not torch.equal(stream.features(images()), plain.features(images()))
    assert {key for key in step(stream) if ".adapter.1." in key}


def test_merged_adapters_have_the_same_output() -> None:
    stream = stream_of(VIT, LowRank(rank=3, alpha=5.0, dropout=0.5)).double()
    for layer in [part for part in stream.modules() if isinstance(part, LowRankLinear)]:
        nn.init.normal_(layer.adapter[2].weight)
    unmerged = stream.eval().features(images().double())
    for name, layer in list(stream.named_modules()):
        if isinstance(layer, LowRankLinear):
            parent, _, child = name.rpartition(".")
            setattr(stream.get_submodule(parent), child, layer.merge())
    assert not any(isinstance(part, LowRankLinear) for part in stream.modules())
    torch.testing.assert_close(stream.features(images().double()), unmerged, rtol=1e-9, atol=1e-9)
    assert not torch.allclose(unmerged, stream_of(VIT, "none").double().features(images().double()))


def test_an_adapter_is_its_formula() -> None:
    layer, values = LowRankLinear(nn.Linear(5, 7), rank=2, alpha=6.0, dropout=0.0).double(), torch.randn(4, 5).double()
    nn.init.normal_(layer.adapter[2].weight)
    down, up = layer.adapter[1].weight, layer.adapter[2].weight
    torch.testing.assert_close(layer(values), layer.base(values) + 6 / 2 * values @ down.T @ up.T)
    torch.testing.assert_close(layer(values), nn.functional.linear(values, layer.weight, layer.bias))


def test_attention_that_multiplies_by_the_weight_itself_has_adapters_without_dropout() -> None:
    model = {"name": "beit_base_patch16_224", "model_args": {"depth": 1, "embed_dim": 24, "num_heads": 2}}
    stream = stream_of(trains=LowRank(rank=2), **model)
    features = stream.features(images())
    nn.init.normal_(stream.backbone.module.blocks[0].attn.qkv.adapter[2].weight)
    assert not torch.allclose(stream.features(images()), features)
    with pytest.raises(ConfigError, match=r"dropout is 0\.5"):
        stream_of(trains=LowRank(rank=2, dropout=0.5), **model).features(images())


@pytest.mark.parametrize(
    ("trains", "kept"), [(LastBlocks(2), ("blocks.4.", "blocks.5.", "norm.")), (LowRank(3), None), ("none", ())]
)
def test_a_checkpoint_leaves_out_what_has_a_source_and_stays(
    trains: Trains, kept: tuple[str, ...] | None, tmp_path: Path
) -> None:
    save_file(stream_of(VIT, "all").backbone.state_dict(), tmp_path / "w.safetensors")
    stream = stream_of(VIT, trains, weights=str(tmp_path / "w.safetensors"))
    left = {key for key in stream.state_dict() if not key.startswith(stream.frozen_prefixes)}
    left -= {key for key in left if key.startswith("to_tokens.")}
    inside = {key.removeprefix("backbone.module.") for key in left}
    learning = {name for name, parameter in stream.backbone.module.named_parameters() if parameter.requires_grad}
    assert inside == learning
    if kept is None:
        assert all(".adapter." in key for key in inside)
    else:
        assert all(key.startswith(kept) for key in inside)
        assert {key for key in stream.backbone.module.state_dict() if kept and key.startswith(kept)} == inside
    assert stream_of(VIT, trains).frozen_prefixes == ()


def test_a_weight_whose_gradient_is_switched_off_later_still_belongs_to_the_checkpoint() -> None:
    frozen = Frozen(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), "a file", ["1.weight", "1.bias"])
    frozen.requires_grad_(False)
    assert frozen.looking == ("0.",)


@pytest.mark.parametrize(
    ("name", "trains", "said"),
    [
        ("test_resnet", LowRank(4), "test_resnet.*no linear layer in attention or MLP.*last"),
        (VIT, LowRank(0), "rank should be at least 1"),
        (VIT, LowRank(2, dropout=1.0), r"dropout in \[0, 1\)"),
        (VIT, LastBlocks(0), "trains.last is 0"),
    ],
)
def test_what_cannot_be_is_named(name: str, trains: Trains, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        stream_of(name, trains)


@pytest.mark.parametrize(
    ("trains", "draws"), [(LastBlocks(1), True), (LowRank(2, dropout=0.5), False), ("none", False)]
)
def test_only_trainable_parts_draw(trains: Trains, draws: bool) -> None:
    stream = stream_of(VIT, trains, model_args={"proj_drop_rate": 0.5, "drop_path_rate": 0.1})
    assert draws_from_generator(stream) is draws
