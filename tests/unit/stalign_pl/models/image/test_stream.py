"""Image streams: timm backbones, local weights, frozen ones, and the errors a configuration can cause."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from stalign_pl.errors import ConfigError
from stalign_pl.models import Frozen, TimmStream, find_frozen_prefixes, has_train_mode_batchnorm

TINY = "test_convnext.r160_in1k"
UNI = {"init_values": 1e-5, "dynamic_img_size": True}


def images(rows: int = 2, size: int = 32, seed: int = 0) -> torch.Tensor:
    return torch.rand(rows, 3, size, size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("size", [32, 64])
def test_tokens_and_features_have_their_shapes(size: int) -> None:
    stream = TimmStream(tokens=3, width=10, name=TINY, size=size)
    assert stream(images(size=size)).shape == (2, 3, 10)
    assert stream.features(images(size=size)).shape == (2, 64)


def test_images_are_normalised_as_timm_says() -> None:
    stream = TimmStream(2, 4, name=TINY, size=32).eval()
    raw = timm.create_model(TINY, num_classes=0).eval()
    raw.load_state_dict(stream.backbone.state_dict())
    mean, std = (torch.tensor(raw.pretrained_cfg[name]).view(3, 1, 1) for name in ("mean", "std"))
    torch.testing.assert_close(stream.features(images()), raw((images() - mean) / std))
    assert not torch.allclose(stream.features(images()), raw(images()), atol=1e-3)
    assert not {"mean", "std"} & stream.state_dict().keys()


def test_images_are_normalised_as_asked() -> None:
    mean, std = (0.7, 0.5, 0.6), (0.2, 0.3, 0.1)
    stream = TimmStream(2, 4, name=TINY, size=32, mean=mean, std=std).eval()
    shown = (images() - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    torch.testing.assert_close(stream.features(images()), stream.backbone(shown))
    for given in ({"mean": (180.0, 120.0, 150.0)}, {"std": (0.2, 0.0, 0.2)}):
        with pytest.raises(ConfigError, match=r"divide those of 0 to 255 by 255"):
            TimmStream(2, 4, name=TINY, size=32, **given)


def test_resnet50_builds_and_runs() -> None:
    stream = TimmStream(tokens=8, width=512, name="resnet50", size=64)
    assert stream.to_tokens.project[0].in_features == 2048
    assert stream(images(size=64)).shape == (2, 8, 512)


def test_uni_builds_at_full_size() -> None:
    with torch.device("meta"):
        stream = TimmStream(tokens=8, width=512, name="vit_large_patch16_224", trains="none", model_args=UNI)
        tokens = stream(torch.empty(2, 3, 224, 224))
    assert tokens.shape == (2, 8, 512)
    keys = stream.backbone.module.state_dict()
    assert keys["pos_embed"].shape == (1, 197, 1024)
    assert "blocks.23.ls1.gamma" in keys
    # ViT-L/16 without head is 303.3 M; init_values add two gains of 1,024 to each of 24 blocks
    assert sum(value.numel() for value in keys.values()) == 303_301_632 + 24 * 2 * 1024


@pytest.mark.parametrize("model_args", [None, {"dynamic_img_size": True}])
def test_a_vision_transformer_takes_the_size_it_is_given(model_args: dict[str, bool] | None) -> None:
    stream = TimmStream(2, 4, name="test_vit", size=32, model_args=model_args)
    assert stream(images(size=32)).shape == (2, 2, 4)


def test_an_image_of_another_size_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"\[2, 3, 48, 48\]; should be \[B, 3, 32, 32\]"):
        TimmStream(2, 4, name=TINY, size=32)(images(size=48))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"name": "reznet50"}, "Did you mean resnet50"),
        ({"name": "resnet50.not_a_tag"}, "no weights tagged 'not_a_tag'; known: .*a1_in1k"),
        ({"name": TINY, "model_args": {"depthh": 3}}, "model_args.*depthh"),
        ({"name": TINY, "pretrained": True, "weights": "x.pth"}, "contradict"),
        ({"name": TINY, "weights": "nowhere.pth"}, "nowhere.pth: no such file"),
    ],
)
def test_a_mistake_in_the_configuration_is_named(arguments: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        TimmStream(2, 4, size=32, **arguments)


def state_of_a_tiny_backbone(num_classes: int = 0) -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    return timm.create_model(TINY, num_classes=num_classes).state_dict()


@pytest.mark.parametrize("suffix", ["safetensors", "pth", "wrapped.pth"])
def test_local_weights_are_loaded(suffix: str, tmp_path: Path) -> None:
    state = state_of_a_tiny_backbone(num_classes=10)  # a published file holds its classifier
    path = tmp_path / f"w.{suffix}"
    if suffix == "safetensors":
        save_file(state, path)
    else:
        torch.save({"state_dict": state, "epoch": 3} if suffix.startswith("wrapped") else state, path)
    loaded = TimmStream(2, 4, name=TINY, size=32, weights=str(path)).backbone.state_dict()
    assert loaded.keys() == {key for key in state if not key.startswith("head.fc.")}
    assert all(torch.equal(value, state[key]) for key, value in loaded.items())


def test_keys_and_shapes_that_do_not_fit_are_named(tmp_path: Path) -> None:
    path, state = tmp_path / "w.safetensors", state_of_a_tiny_backbone()
    first, second = sorted(state)[:2]
    state["stranger.weight"] = state.pop(first)
    state[second] = torch.zeros(7)
    save_file(state, path)
    with pytest.raises(ConfigError) as raised:
        TimmStream(2, 4, name=TINY, size=32, weights=str(path))
    for said in (str(path), f"missing keys {first}", "extra keys stranger.weight", f"{second} is [7], should be"):
        assert said in str(raised.value)


def test_a_file_that_holds_no_tensors_is_refused(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "w.pth")
    (tmp_path / "w.bin2").touch()
    with pytest.raises(ConfigError, match="dictionary of tensors"):
        TimmStream(2, 4, name=TINY, size=32, weights=str(tmp_path / "w.pth"))
    with pytest.raises(ConfigError, match=r"unknown suffix '\.bin2'"):
        TimmStream(2, 4, name=TINY, size=32, weights=str(tmp_path / "w.bin2"))


def test_a_frozen_backbone_keeps_its_weights_while_the_projection_trains() -> None:
    stream = TimmStream(2, 4, name="test_resnet", size=32, trains="none").train()
    before = {key: value.clone() for key, value in stream.backbone.state_dict().items()}
    optimiser = torch.optim.SGD(stream.parameters(), lr=1.0)
    features = stream.features(images(4))
    assert not features.requires_grad
    stream(images(4)).square().sum().backward()
    optimiser.step()
    assert not any(module.training for module in stream.backbone.modules())
    assert all(torch.equal(value, before[key]) for key, value in stream.backbone.state_dict().items())
    assert torch.equal(stream.features(images(4)), features)
    assert all(p.grad is None for p in stream.backbone.parameters())
    assert all(p.grad.any() for p in stream.to_tokens.parameters())


def test_only_frozen_weights_with_a_source_may_leave_the_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file(state_of_a_tiny_backbone(), path)
    from_file = TimmStream(2, 4, name=TINY, size=32, weights=str(path), trains="none")
    assert from_file.frozen_prefixes == ("backbone.",)
    dropped = {key for key in from_file.state_dict() if key.startswith(from_file.frozen_prefixes)}
    assert len(dropped) == len(state_of_a_tiny_backbone())
    assert TimmStream(2, 4, name=TINY, size=32, trains="none").frozen_prefixes == ()
    assert TimmStream(2, 4, name=TINY, size=32, weights=str(path)).frozen_prefixes == ()
    assert find_frozen_prefixes(nn.Sequential(nn.Linear(2, 2), Frozen(nn.Linear(2, 2), "a file"))) == ("1.",)


@pytest.mark.parametrize(
    ("name", "trains", "expected"),
    [("test_resnet", "all", True), ("test_resnet", "none", False), (TINY, "all", False)],
)
def test_batchnorm_in_train_mode_is_found(name: str, trains: str, expected: bool) -> None:
    stream = TimmStream(2, 4, name=name, size=32, trains=trains)
    assert has_train_mode_batchnorm(stream) is expected
    assert not has_train_mode_batchnorm(nn.SyncBatchNorm.convert_sync_batchnorm(stream))
    assert not has_train_mode_batchnorm(TimmStream(2, 4, name=name, size=32).eval())
