"""The models that the speed benchmarks of training train. The one place that knows how an STAlign is put together."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from stalign_pl.data.datamodule import STAlignData
from stalign_pl.models import ABFN, GeneMLP, NicheGeneTransformer, STAlign, TimmStream
from stalign_pl.models.image.trained_part import Trains

UNI = {"init_values": 1e-5, "dynamic_img_size": True}


@dataclass(frozen=True)
class Size:
    """A model's encoders, and the sides of their pictures, px."""

    spot: str
    niche: str
    spot_px: int
    niche_px: int
    tokens: int
    width: int
    hidden: int
    niche_trains: Trains = "all"
    paper_genes: bool = False
    model_args: dict | None = None


SIZES = {
    "tiny": Size("test_efficientnet_gn", "test_efficientnet_gn", 32, 32, 2, 16, 16),
    "demo": Size("test_efficientnet_gn", "test_efficientnet_gn", 64, 48, 4, 128, 256),
    "resnet50_small": Size("resnet50_gn", "resnet50_gn", 64, 64, 8, 512, 1024),
    "paper": Size("resnet50", "vit_large_patch16_224", 224, 224, 8, 512, 1024, "none", True, UNI),
}
"""Encoders as in configs/demo.yaml and configs/paper.yaml (random weights); GroupNorm, so that parts add up."""


def stalign(data: STAlignData, size: Size) -> STAlign:
    """A model with random weights for the data's genes."""
    gene = partial(GeneMLP, hidden=size.hidden)
    heads = {"heads": 8, "head_dim": 64} if size.width >= 512 else {"heads": 4, "head_dim": size.width // 4}
    niche = partial(
        TimmStream,
        name=size.niche,
        size=size.niche_px,
        trains=size.niche_trains,
        model_args=size.model_args,
    )
    return STAlign(
        genes=data.gene_panel,
        spot_image=partial(TimmStream, name=size.spot, size=size.spot_px),
        niche_image=niche,
        spot_gene=gene,
        niche_gene=NicheGeneTransformer if size.paper_genes else gene,
        fusion=partial(ABFN, **heads, bottleneck=size.width // 8, hidden=4 * size.width, out=2 * size.width),
        tokens=size.tokens,
        width=size.width,
        dim=size.width,
    )
