"""The scGPT fixture: weights in the published form, and a panel of its genes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from stalign_pl.batch.gene_panel import GenePanel
from tests.support.paths import SCGPT

WEIGHTS = load_file(SCGPT / "weights.safetensors")


def panel(symbols: Iterable[str]) -> GenePanel:
    symbols = tuple(symbols)
    statistics = np.ones(len(symbols), np.float32)
    return GenePanel(symbols, tuple(f"ENSG{n:011d}" for n in range(len(symbols))), statistics, statistics)


PANEL = panel(f"G{number}" for number in range(120))


def written(folder: Path, **changes: torch.Tensor | None) -> Path:
    state = {name.replace("self_attn.in_proj_", "self_attn.Wqkv."): value for name, value in WEIGHTS.items()}
    state |= {"flag_encoder.weight": torch.zeros(2, 16), **changes}
    torch.save({name: value for name, value in state.items() if value is not None}, folder / "best_model.pt")
    return folder
