"""A folder of scGPT's published form."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from stalign_pl.models.scgpt.encoder import ScGPTEncoder, ScGPTShape

SETTINGS = {"embsize": 16, "nheads": 2, "d_hid": 16, "nlayers": 1, "dropout": 0.2, "n_bins": 51, "pad_value": -2}


def published(folder: Path) -> Path:
    """A small random scGPT that knows GENE3 and those after it."""
    tokens = ["<pad>", "<cls>", "<eoc>", *(f"GENE{number}" for number in range(3, 41))]
    torch.manual_seed(0)
    weights = ScGPTEncoder(ScGPTShape(16, 2, 1, 16, 0.2), len(tokens), 0).state_dict()
    folder.mkdir()
    (folder / "args.json").write_text(json.dumps(SETTINGS))
    (folder / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(tokens)}))
    torch.save(weights, folder / "best_model.pt")
    return folder
