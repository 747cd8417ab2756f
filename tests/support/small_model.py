"""A small STAlign and a batch for it."""

from __future__ import annotations

from functools import partial

import torch

from stalign_pl.batch.inputs import ModelInputs
from stalign_pl.models import ABFN, GeneMLP, STAlign, TimmStream
from tests.support.panels import plain_panel


def small(**changes: object) -> STAlign:
    parts = {
        "spot_image": partial(TimmStream, name="test_convnext", size=32),
        "niche_image": partial(TimmStream, name="test_convnext", size=48),
        "spot_gene": partial(GeneMLP, hidden=16),
        "niche_gene": partial(GeneMLP, hidden=16),
        "fusion": partial(ABFN, heads=2, head_dim=4, hidden=24, out=20),
    }
    return STAlign(genes=plain_panel(22), tokens=2, width=8, dim=6, **{**parts, **changes})


def batch(rows: int = 3, n_genes: int = 22) -> ModelInputs:
    generator = torch.Generator().manual_seed(1)
    return ModelInputs(
        torch.rand(rows, 3, 32, 32, generator=generator),
        torch.rand(rows, n_genes, generator=generator),
        torch.rand(rows, 3, 48, 48, generator=generator),
        torch.rand(rows, n_genes, generator=generator),
        torch.rand(rows, n_genes, generator=generator) < 0.8,
    )
