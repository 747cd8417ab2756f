"""Training by the scheme of the authors' code: an anchor's negatives are five other spots, encoded for it alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.speed.step_times import WARM_UP, Times, now
from benchmarks.speed.stock_loaders import files_loader, write_files
from stalign_pl.batch.embeddings import Embeddings
from stalign_pl.batch.inputs import ModelInputs, StepInputs
from stalign_pl.models import STAlign

NEGATIVES, TEMPERATURE = 5, 0.1


def paired_loss(anchor: Embeddings, others: list[Embeddings]) -> Tensor:
    """InfoNCE of the anchors with their paired negatives at the three levels, in one direction."""
    total = torch.zeros(())
    for a, b in (("spot_image", "spot_gene"), ("niche_image", "niche_gene"), ("spot", "niche")):
        query = functional.normalize(getattr(anchor, a), dim=1)
        keys = torch.stack([functional.normalize(getattr(of, b), dim=1) for of in (anchor, *others)], dim=1)
        logits = (query[:, None] * keys).sum(2) / TEMPERATURE
        total = total + functional.cross_entropy(logits, torch.zeros(len(query), dtype=torch.int64))
    return total / 3


def endless(loader: Iterable[dict[str, Tensor]]) -> Iterator[dict[str, Tensor]]:
    while True:
        yield from loader


def authors(model: STAlign, folder: Path, samples: int, batch: int, steps: int) -> Times:
    """Train by the authors' scheme over a folder of `write_inputs`; times of a step."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    batches = endless(files_loader(folder, samples, batch, workers=0, negatives=NEGATIVES))
    for step in range(-WARM_UP, steps):
        if step == 0:
            started = now(torch.device("cpu"))
        taken = next(batches)
        images = [taken[name].permute(0, 1, 4, 2, 3).float() / 255 for name in ("spot", "niche")]
        genes = [taken[name] for name in ("spot_genes", "niche_genes")]
        measured = torch.ones_like(genes[0], dtype=torch.bool)
        optimizer.zero_grad()
        found = [
            model(
                ModelInputs(images[0][:, one], genes[0][:, one], images[1][:, one], genes[1][:, one], measured[:, one])
            )
            for one in range(1 + NEGATIVES)
        ]
        paired_loss(found[0], found[1:]).backward()
        optimizer.step()
    return now(torch.device("cpu")).since(started, steps)


def write_inputs(folder: Path, inputs: StepInputs) -> int:
    """Store a batch as the encoders take it; the number of samples."""
    pixels = [
        (image * 255).round().byte().permute(0, 2, 3, 1).contiguous().numpy()
        for image in (inputs.model.spot_image, inputs.model.niche_image)
    ]
    write_files(folder, (*pixels, inputs.model.spot_genes.numpy(), inputs.model.niche_genes.numpy()), 0)
    return len(inputs.ids)
