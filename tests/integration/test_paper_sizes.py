"""The paper's encoders at full size: shapes, and numbers of parameters counted by hand."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import timm
import torch
from safetensors.torch import save_file
from torch import nn

from stalign_pl.models import ABFN, GeneMLP, NicheGeneTransformer, STAlign, TimmStream
from tests.support.panels import plain_panel

UNI = {"init_values": 1e-5, "dynamic_img_size": True}
TOKENS, WIDTH, GENES = 8, 512, 19_264
PANEL = plain_panel(GENES)


def counted(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def linear(inside: int, outside: int) -> int:
    return inside * outside + outside


def vision_transformer(width: int, depth: int, patch: int, side: int) -> int:
    """ViT without head (Dosovitskiy et al. 2021), with the two gains of LayerScale a block."""
    norm = 2 * width
    attention = linear(width, 3 * width) + linear(width, width)
    block = 2 * norm + attention + linear(width, 4 * width) + linear(4 * width, width) + 2 * width
    embedding = linear(3 * patch**2, width) + width + ((side // patch) ** 2 + 1) * width  # patches, class, positions
    return embedding + depth * block + norm


def resnet50() -> int:
    """Without head (He et al. 2016): bottlenecks of 3, 4, 6 and 3, the first of a stage with a projection."""
    total, inside = 3 * 64 * 49 + 2 * 64, 64
    for width, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        outside = 4 * width
        for block in range(blocks):
            total += inside * width + 9 * width**2 + width * outside + 2 * (width + width + outside)
            total += inside * outside + 2 * outside if block == 0 else 0
            inside = outside
    return total


def to_tokens(features: int) -> int:
    return linear(features, WIDTH) + linear(WIDTH, TOKENS * WIDTH)


def niche_gene_transformer(n_genes: int) -> int:
    dim, inner, mlp = 548, 8 * 64, 1024
    attention = dim * inner * 3 + linear(inner, dim)
    block = 4 * dim + attention + linear(dim, mlp) + linear(mlp, dim)
    project = linear(n_genes, 1024) + linear(1024, 512) + linear(512, TOKENS * dim)
    return n_genes + project + 6 * block + 2 * dim + linear(dim, 256) + linear(256, WIDTH)


def test_unis_architecture() -> None:
    with torch.device("meta"):
        stream = TimmStream(TOKENS, WIDTH, name="vit_large_patch16_224", trains="none", model_args=UNI)
        assert stream(torch.empty(2, 3, 224, 224)).shape == (2, 8, 512)
    assert counted(stream.backbone) == vision_transformer(1024, 24, 16, 224) == 303_350_784
    assert counted(stream.to_tokens) == to_tokens(1024)


def test_resnet50() -> None:
    with torch.device("meta"):
        stream = TimmStream(TOKENS, WIDTH, name="resnet50")
        assert stream(torch.empty(2, 3, 224, 224)).shape == (2, 8, 512)
    assert counted(stream.backbone) == resnet50() == 23_508_032
    assert counted(stream.to_tokens) == to_tokens(2048)


def test_the_adaptive_gene_encoder() -> None:
    with torch.device("meta"):
        stream = NicheGeneTransformer(PANEL, TOKENS, WIDTH)
        found = stream(torch.empty(2, GENES), torch.ones(2, GENES, dtype=torch.bool))
    assert found.shape == (2, 8, 512)
    assert counted(stream) == niche_gene_transformer(GENES)


def test_the_whole_model_trains_what_is_not_uni() -> None:
    with torch.device("meta"):
        model = STAlign(
            genes=PANEL,
            spot_image=partial(TimmStream, name="resnet50"),
            niche_image=partial(TimmStream, name="vit_large_patch16_224", trains="none", model_args=UNI),
            spot_gene=partial(GeneMLP, hidden=1024),
            niche_gene=NicheGeneTransformer,
            fusion=ABFN,
            tokens=TOKENS,
            width=WIDTH,
        )
    frozen = vision_transformer(1024, 24, 16, 224)
    gene_mlp = GENES + linear(GENES, 1024) + 2 * 1024 + linear(1024, TOKENS * WIDTH)
    streams = resnet50() + to_tokens(2048) + to_tokens(1024) + gene_mlp + niche_gene_transformer(GENES)
    pools = 4 * (2 * 512 + linear(512, 512))
    assert counted(model) - frozen == streams + pools + counted(model.fuse_spot) + counted(model.fuse_niche)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == counted(model) - frozen


def test_a_file_of_unis_keys_loads(tmp_path: Path) -> None:
    """UNI's own file is timm's state dict of the architecture: here one of two narrow blocks."""
    small = {**UNI, "depth": 2, "embed_dim": 16, "num_heads": 2}
    published = timm.create_model("vit_large_patch16_224", num_classes=0, **small)
    keys = published.state_dict().keys()
    layers = ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")
    block = [f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")] + ["ls1.gamma", "ls2.gamma"]
    wanted = {f"blocks.{number}.{key}" for number in range(2) for key in block}
    wanted |= {f"{layer}.{kind}" for layer in ("patch_embed.proj", "norm") for kind in ("weight", "bias")}
    wanted |= {"cls_token", "pos_embed"}
    assert keys == wanted
    save_file(published.state_dict(), tmp_path / "uni.safetensors")
    stream = TimmStream(
        TOKENS,
        WIDTH,
        name="vit_large_patch16_224",
        trains="none",
        model_args=small,
        weights=str(tmp_path / "uni.safetensors"),
    )
    assert all(
        torch.equal(value, published.state_dict()[k]) for k, value in stream.backbone.module.state_dict().items()
    )
    assert stream.frozen_prefixes == ("backbone.",)
    assert torch.equal(stream.mean.flatten(), torch.tensor([0.5, 0.5, 0.5]))
