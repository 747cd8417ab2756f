"""A whole training step beside encoders and losses alone, and beside the authors' scheme, on a CPU.

    python benchmarks/step.py                               (a few minutes on two cores)

`whole` is Lightning's fit of `STAlignModule` over `STAlignData`: loader, transform with augmentation, encoders, losses,
AdamW. `resident` is the same model, loss and optimiser in a bare loop over one batch of random tensors. `authors` is
the scheme of the authors' code: one .npz a sample and modality behind a DataLoader, the anchor and five other spots,
each through the whole model (six forward passes), InfoNCE with paired negatives; pictures and genes are stored as the
encoders take them, in its favour. By the clock; loader and encoders share the cores. A case's time is that of its
steps after the first two; the cases take turns, --repeats times, and the table has the medians of turns. Models are
random, with GroupNorm: `demo` as configs/demo.yaml, `resnet50` a ResNet-50 of 224 px for either picture.
Goal: whole at least 0.95 of resident's rate.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pair_set
import torch
import torch.nn.functional as F
from lightning import Callback, Trainer
from machine import machine, write_results
from stock_loaders import files_loader, write_files
from torch import Tensor
from training_models import SIZES, Size, stalign

from stalign_pl.data.datamodule import STAlignData
from stalign_pl.data.gene_selection import GeneSelection
from stalign_pl.data.plan import Composition
from stalign_pl.data.transform import ModelInputs
from stalign_pl.models import Embeddings, STAlign
from stalign_pl.module import STAlignModule
from stalign_pl.objectives import ThreeLevelLoss
from stalign_pl.schedules import OptimizerConfig

GOAL, NEGATIVES, WARM_UP, TEMPERATURE = 0.95, 5, 2, 0.1


@dataclass(frozen=True)
class Case:
    """A model, its global batch, and how many anchors a step of the authors' scheme takes."""

    size: str
    composition: Composition
    anchors: int
    steps: int


CASES = (
    Case("demo", Composition(4, 32, 8), anchors=64, steps=8),
    Case("resnet50", Composition(4, 2, 2), anchors=2, steps=3),
)
TINY = (Case("tiny", Composition(2, 4, 2), anchors=4, steps=2),)


class Stopwatch(Callback):
    """Seconds a training step after the warm-up, the share of them that was waited for data, and the last batch."""

    def __init__(self) -> None:
        self.steps = -WARM_UP
        self.inputs: ModelInputs | None = None
        self.started = self.seconds = self.waiting = 0.0

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.steps += 1
        self.inputs = batch
        if self.steps == 0:
            trainer.train_dataloader.waited, self.started = 0.0, clock(pl_module.device)

    def on_train_end(self, trainer, pl_module) -> None:
        taken = clock(pl_module.device) - self.started
        self.seconds, self.waiting = taken / self.steps, trainer.train_dataloader.waited / taken


def clock(device: torch.device) -> float:
    """Seconds, when all that was asked of the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def data_of(shards: Path, size: Size, composition: Composition, genes: int) -> STAlignData:
    selection = GeneSelection(n=genes, spots=200)
    return STAlignData(str(shards), size.spot_px, size.niche_px, composition=composition, genes=selection, stain="none")


def whole(data: STAlignData, model: STAlign, steps: int, device: str = "cpu", precision: str = "32-true") -> Stopwatch:
    """Fit so many steps after the warm-up."""
    watch = Stopwatch()
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = Trainer(
        **{**quiet, "enable_model_summary": False, "limit_val_batches": 0, "num_sanity_val_steps": 0},
        accelerator=device,
        devices=1,
        precision=precision,
        max_steps=steps + WARM_UP,
        callbacks=[watch],
    )
    trainer.fit(STAlignModule(model, ThreeLevelLoss(), OptimizerConfig()), datamodule=data)
    return watch


def embed(model: STAlign, inputs: ModelInputs) -> Embeddings:
    return model(inputs.spot_image, inputs.spot_genes, inputs.niche_image, inputs.niche_genes, inputs.measured)


def like(inputs: ModelInputs) -> ModelInputs:
    """Random tensors of a batch's shapes."""
    images = (torch.rand_like(image) for image in (inputs.spot_image, inputs.niche_image))
    genes = (torch.randn_like(values) for values in (inputs.spot_genes, inputs.niche_genes))
    spot, niche = images
    return ModelInputs(inputs.ids, spot, next(genes), niche, next(genes), inputs.measured)


def resident(model: STAlign, inputs: ModelInputs, steps: int, half: bool = False) -> float:
    """Encoders, losses and optimiser over one batch in memory, where it is; seconds a step.

    Args:
        half: under bf16 autocast.
    """
    device = inputs.spot_image.device
    objective = ThreeLevelLoss().to(device)
    optimizer = torch.optim.AdamW([*model.parameters(), *objective.parameters()], lr=1e-4)
    for step in range(-WARM_UP, steps):
        if step == 0:
            started = clock(device)
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            loss = objective(embed(model, inputs), inputs.ids).total
        loss.backward()
        optimizer.step()
    return (clock(device) - started) / steps


def paired_loss(anchor: Embeddings, others: list[Embeddings]) -> Tensor:
    """InfoNCE of the anchors with their paired negatives at the three levels, in one direction."""
    total = torch.zeros(())
    for a, b in (("spot_image", "spot_gene"), ("niche_image", "niche_gene"), ("spot", "niche")):
        query = F.normalize(getattr(anchor, a), dim=1)
        keys = torch.stack([F.normalize(getattr(of, b), dim=1) for of in (anchor, *others)], dim=1)
        logits = (query[:, None] * keys).sum(2) / TEMPERATURE
        total = total + F.cross_entropy(logits, torch.zeros(len(query), dtype=torch.int64))
    return total / 3


def endless(loader) -> Iterator[dict[str, Tensor]]:
    while True:
        yield from loader


def authors(model: STAlign, folder: Path, samples: int, case: Case, workers: int) -> float:
    """The authors' scheme; seconds a step."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    batches = endless(files_loader(folder, samples, case.anchors, workers, NEGATIVES))
    for step in range(-WARM_UP, case.steps):
        if step == 0:
            started = time.perf_counter()
        batch = next(batches)
        images = [batch[name].permute(0, 1, 4, 2, 3).float() / 255 for name in ("spot", "niche")]
        genes = [batch[name] for name in ("spot_genes", "niche_genes")]
        measured = torch.ones_like(genes[0], dtype=torch.bool)
        optimizer.zero_grad()
        found = [
            model(images[0][:, one], genes[0][:, one], images[1][:, one], genes[1][:, one], measured[:, one])
            for one in range(1 + NEGATIVES)
        ]
        paired_loss(found[0], found[1:]).backward()
        optimizer.step()
    return (time.perf_counter() - started) / case.steps


def write_inputs(folder: Path, inputs: ModelInputs, copies: int) -> int:
    """Store a batch as the encoders take it, so many times; the number of samples."""
    pixels = [
        (image * 255).round().byte().permute(0, 2, 3, 1).contiguous().numpy()
        for image in (inputs.spot_image, inputs.niche_image)
    ]
    columns = (*pixels, inputs.spot_genes.numpy(), inputs.niche_genes.numpy())
    for copy in range(copies):
        write_files(folder, columns, copy * len(inputs.ids))
    return copies * len(inputs.ids)


def measure(case: Case, shards: Path, genes: int, repeats: int, workers: int) -> dict[str, list[float]]:
    """Seconds a step by kind of step, and the share of the time that fit waited for data; a turn each."""
    size = SIZES[case.size]
    data = data_of(shards, size, case.composition, genes)
    model = stalign(data, size)
    found: dict[str, list[float]] = {name: [] for name in ("whole", "resident", "authors", "waiting")}
    rows = case.composition.batch
    for _ in range(repeats):
        watch = whole(data, model, case.steps)
        found["whole"].append(watch.seconds)
        found["waiting"].append(watch.waiting)
        found["resident"].append(resident(model, like(watch.inputs), case.steps))
        with tempfile.TemporaryDirectory(dir=shards.parent) as folder:
            samples = write_inputs(Path(folder), watch.inputs, -(-(WARM_UP + case.steps) * case.anchors // rows))
            found["authors"].append(authors(model, Path(folder), samples, case, workers))
    return found


def table(results: dict[str, dict[str, list[float]]], cases: tuple[Case, ...]) -> list[str]:
    lines = ["| model | step | anchors | ms a step | ms an anchor | ms an encoded picture | of resident's rate |"]
    lines.append("|---" * 7 + "|")
    for case in cases:
        of = results[case.size]
        alone = np.median(of["resident"]) / case.composition.batch
        for kind in ("whole", "resident", "authors"):
            anchors = case.anchors if kind == "authors" else case.composition.batch
            encoded = 2 * (1 + NEGATIVES if kind == "authors" else 1)
            step = 1e3 * float(np.median(of[kind]))
            cells = [f"{step:,.0f}", f"{step / anchors:,.2f}", f"{step / anchors / encoded:,.2f}"]
            lines.append(
                f"| {case.size} | {kind} | {anchors} | "
                + " | ".join(cells)
                + f" | {1e3 * alone * anchors / step:.2f} |"
            )
    return lines


def verdict(results: dict[str, dict[str, list[float]]], cases: tuple[Case, ...]) -> list[str]:
    lines = []
    for case in cases:
        of = results[case.size]
        share = float(np.median(np.array(of["resident"]) / np.array(of["whole"])))
        ours, theirs = np.median(of["whole"]) / case.composition.batch, np.median(of["authors"]) / case.anchors
        lines.append(
            f"{case.size}: whole at least {GOAL} of resident: {'met' if share >= GOAL else 'MISSED'}, {share:.2f}; "
            f"waited for data {np.median(of['waiting']):.1%} of the time; {theirs / ours:.1f} times the authors' "
            f"anchors a second, {theirs / ours / (1 + NEGATIVES):.2f} times their pictures a second"
        )
    return lines


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="a tiny model on tiny pictures: does it run?")
    parser.add_argument("--genes", type=int, default=4384)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2, help="worker processes of the authors' DataLoader")
    parser.add_argument("--section", type=Path, default=pair_set.SECTION, help="folder of a section's JPEG")
    parser.add_argument("--work", type=Path, default=Path("runs/step"), help="written here and removed")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/step"))
    args = parser.parse_args(argv)
    shutil.rmtree(args.work, ignore_errors=True)
    shards = args.work / "shards"
    shards.mkdir(parents=True)
    cases = TINY if args.tiny else CASES
    try:
        drawn = pair_set.texture(args.section)
        pair_set.build(shards, [32] * 2 if args.tiny else [640] * 4, drawn, 32 if args.tiny else 224)
        results = {case.size: measure(case, shards, args.genes, args.repeats, args.workers) for case in cases}
    finally:
        shutil.rmtree(args.work)
    lines = [
        f"{args.genes:,} genes; {torch.get_num_threads()} torch threads; tissue: {drawn.origin}.",
        "",
        *table(results, cases),
        "",
        *(f"- {line}" for line in verdict(results, cases)),
        "",
        machine("torch", "lightning", "timm", "simplejpeg"),
    ]
    write_results(args.out, lines, results)


if __name__ == "__main__":
    main()
