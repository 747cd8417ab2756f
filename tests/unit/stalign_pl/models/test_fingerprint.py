"""Which streams are cacheable, and what an encoder's fingerprint covers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from stalign_pl.batch.features import Features
from stalign_pl.models import GeneMLP, LastBlocks, TimmStream, find_cacheable_streams, fingerprint_encoder
from tests.support.panels import plain_panel


def stream(**options: object) -> TimmStream:
    torch.manual_seed(0)
    return TimmStream(2, 8, "test_vit", 32, **{"trains": "none", "model_args": {"img_size": 32}, **options})


class Model(torch.nn.Module):
    def __init__(self, **streams: torch.nn.Module | None) -> None:
        super().__init__()
        for name, part in streams.items():
            setattr(self, name, part)


def test_only_frozen_streams_are_cacheable() -> None:
    model = Model(
        spot_image=stream(),
        niche_image=stream(trains=LastBlocks(1)),
        spot_gene=GeneMLP(plain_panel(5), 2, 8),
        other=stream(),
    )
    assert list(find_cacheable_streams(model)) == ["spot_image"]
    assert find_cacheable_streams(Model(spot_image=stream(trains="all"), niche_gene=None)) == {}


def test_features_take_the_encoders_place() -> None:
    frozen, image = stream().eval(), torch.rand(3, 3, 32, 32)
    kept = Features(frozen.features(image))
    assert torch.equal(frozen(kept), frozen(image))
    assert torch.equal(frozen(kept[1:]), frozen(image)[1:])


@pytest.mark.parametrize(
    ("change", "architecture", "weights"),
    [
        (lambda one: None, False, False),
        (lambda one: one.train(), False, False),
        (lambda one: torch.nn.init.ones_(one.to_tokens.project[0].bias), False, False),
        (lambda one: setattr(one.backbone, "source", "elsewhere.pth"), False, False),
        (lambda one: one.backbone.module.patch_embed.proj.bias.add_(1e-6), False, True),
        (lambda one: one.mean.add_(0.1), False, True),  # of no state dict
        (lambda one: setattr(one.backbone.module, "global_pool", "avg"), True, False),
        (lambda one: setattr(one.backbone.module.norm, "eps", 1e-3), True, False),
    ],
)
@torch.no_grad()
def test_a_fingerprint_is_of_all_that_decides_the_features(
    change: Callable[[TimmStream], object], architecture: bool, weights: bool
) -> None:
    """Independent of mode, projection and where the weights came from."""
    one, other = stream(), stream()
    change(one)
    first, second = fingerprint_encoder(one), fingerprint_encoder(other)
    assert (first.architecture != second.architecture) is architecture
    assert (first.weights != second.weights) is weights
