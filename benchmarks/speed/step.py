"""A whole training step beside encoders and losses alone, and beside the authors' scheme, on a CPU.

    python -m benchmarks.speed.step    (under eight minutes on one core)

`whole` is Lightning's fit of `STAlignModule` over `STAlignData`: loader, transform with augmentation, encoders, losses,
AdamW. `resident` is the same model, loss and optimiser in a bare loop over one batch of random tensors. `authors` is
the scheme of the authors' code: one .npz a sample and modality behind a DataLoader (in this process, which spares it
the workers' traffic), the anchor and five other spots, each through the whole model (six forward passes), InfoNCE with
paired negatives; pictures and genes are stored as the encoders take them, in its favour. All take the same number of
anchors a step.
Cost is CPU seconds of the process with all its threads, torch on one: on a CPU the loader shares the cores with the
encoders, so what it costs is lost, waited for or not. A kind's cost is that of its steps after the first two; the three
take turns, the table has the medians of turns, a share is the median of the turns' ratios. Models are random, with
GroupNorm: `demo` as configs/demo.yaml; `resnet50` a ResNet-50 for either picture at 64 px, a twelfth of its work at
224 px, beside which the loader (its stored pictures have 224 px) weighs that much more.
A model's numbers are written once they are there; `--models NAME` measures one and keeps the others that --out has.
Goal: whole at least 0.95 of resident's rate.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer

from benchmarks.machine import describe_machine, write_results
from benchmarks.speed import pair_set
from benchmarks.speed.authors_scheme import NEGATIVES, authors, write_inputs
from benchmarks.speed.step_times import WARM_UP, Times, now
from benchmarks.speed.training_models import SIZES, Size, stalign
from stalign_pl.batch.inputs import ModelInputs, StepInputs
from stalign_pl.data.datamodule import STAlignData
from stalign_pl.data.epoch.plan import Composition
from stalign_pl.data.genes.selection import GeneSelection
from stalign_pl.models import STAlign
from stalign_pl.objectives import ThreeLevelLoss
from stalign_pl.training.module import STAlignModule
from stalign_pl.training.optimizer import OptimizerConfig

GOAL = 0.95
KINDS = ("whole", "resident", "authors")


@dataclass(frozen=True)
class Case:
    """A model's size, its global batch, and the steps that are counted in a turn."""

    size: str
    composition: Composition
    steps: int


CASES = {
    "demo": Case("demo", Composition(4, 32, 8), steps=8),
    "resnet50": Case("resnet50_small", Composition(4, 4, 4), steps=3),
}
TINY = {"tiny": Case("tiny", Composition(2, 4, 2), steps=1)}


class Stopwatch(Callback):
    """Times of a training step after the warm-up, the share of them that was waited for data, and the last batch."""

    def __init__(self) -> None:
        self.steps = -WARM_UP
        self.inputs: StepInputs | None = None
        self.started = self.step = Times(0.0, 0.0)
        self.waiting = 0.0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: StepInputs, batch_idx: int
    ) -> None:
        self.steps += 1
        self.inputs = batch
        if self.steps == 0:
            trainer.train_dataloader.waited, self.started = 0.0, now(pl_module.device)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.step = now(pl_module.device).since(self.started, self.steps)
        self.waiting = trainer.train_dataloader.waited / (self.steps * self.step.wall)


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


def like(inputs: StepInputs) -> StepInputs:
    """Random tensors of a batch's shapes."""
    given = inputs.model
    drawn = ModelInputs(
        spot_image=torch.rand_like(given.spot_image),
        spot_genes=torch.randn_like(given.spot_genes),
        niche_image=torch.rand_like(given.niche_image),
        niche_genes=torch.randn_like(given.niche_genes),
        measured=given.measured,
    )
    return replace(inputs, model=drawn)


def resident(model: STAlign, inputs: StepInputs, steps: int, half: bool = False) -> Times:
    """Encoders, losses and optimiser over one batch in memory, where it is; times of a step.

    Args:
        half: under bf16 autocast.
    """
    device = inputs.ids.slide.device
    objective = ThreeLevelLoss().to(device)
    optimizer = torch.optim.AdamW([*model.parameters(), *objective.parameters()], lr=1e-4)
    for step in range(-WARM_UP, steps):
        if step == 0:
            started = now(device)
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            loss = objective(model(inputs.model), inputs.ids).total
        loss.backward()
        optimizer.step()
    return now(device).since(started, steps)


def measure(case: Case, shards: Path, genes: int, repeats: int) -> dict[str, list]:
    """By kind of step, its times in each turn; and the share of the time that fit waited for data."""
    size = SIZES[case.size]
    data = data_of(shards, size, case.composition, genes)
    model = stalign(data, size)
    found: dict[str, list] = {name: [] for name in (*KINDS, "waiting")}
    for _ in range(repeats):
        watch = whole(data, model, case.steps)
        found["waiting"].append(watch.waiting)
        with tempfile.TemporaryDirectory(dir=shards.parent) as folder:
            samples = write_inputs(Path(folder), watch.inputs)
            turn = {
                "whole": watch.step,
                "resident": resident(model, like(watch.inputs), case.steps),
                "authors": authors(model, Path(folder), samples, case.composition.batch, case.steps),
            }
        for name, taken in turn.items():
            found[name].append(asdict(taken))
    return found


def cpu(of: dict, kind: str) -> np.ndarray:
    """CPU seconds a step in each turn."""
    return np.array([taken["cpu"] for taken in of["turns"][kind]])


def table(results: dict[str, dict]) -> list[str]:
    lines = ["| model | step | anchors | CPU ms a step | ms an anchor | ms an encoded picture | of resident's rate |"]
    lines.append("|---" * 7 + "|")
    for model, of in results.items():
        for kind in KINDS:
            step, anchors = 1e3 * float(np.median(cpu(of, kind))), of["anchors"]
            pictures = 2 * (1 + NEGATIVES if kind == "authors" else 1)
            share = float(np.median(cpu(of, "resident") / cpu(of, kind)))
            cells = (f"{step:,.0f}", f"{step / anchors:,.2f}", f"{step / anchors / pictures:,.2f}", f"{share:.2f}")
            lines.append(f"| {model} | {kind} | {anchors} | " + " | ".join(cells) + " |")
    return lines


def verdict(results: dict[str, dict]) -> list[str]:
    lines = []
    for model, of in results.items():
        share = float(np.median(cpu(of, "resident") / cpu(of, "whole")))
        less = float(np.median(cpu(of, "authors") / cpu(of, "whole")))
        lines.append(
            f"{model}: whole at least {GOAL} of resident: {'met' if share >= GOAL else 'MISSED'}, {share:.2f}; "
            f"the authors' scheme costs {less:.1f} times as much an anchor, and {less / (1 + NEGATIVES):.2f} times "
            f"an encoded picture, of which it has {1 + NEGATIVES} times as many"
        )
    return lines


def written(out: Path) -> dict[str, dict]:
    """What an earlier run left in `results.json`."""
    file = out / "results.json"
    return json.loads(file.read_text()) if file.exists() else {}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="a tiny model on tiny pictures: does it run?")
    parser.add_argument("--models", nargs="+", choices=CASES, default=list(CASES), help="measured; others stay")
    parser.add_argument("--genes", type=int, default=4384)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--section", type=Path, default=pair_set.SECTION, help="folder of a section's JPEG")
    parser.add_argument("--work", type=Path, default=Path("runs/step"), help="written here and removed")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/step"))
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    shutil.rmtree(args.work, ignore_errors=True)
    shards = args.work / "shards"
    shards.mkdir(parents=True)
    cases = TINY if args.tiny else {name: CASES[name] for name in args.models}
    try:
        drawn = pair_set.texture(args.section)
        pair_set.build(shards, [32] * 2 if args.tiny else [640] * 4, drawn, 32 if args.tiny else 224)
        for name, case in cases.items():
            size = SIZES[case.size]
            found = {
                "setting": f"{args.genes:,} genes, pictures of {size.spot_px} and {size.niche_px} px, {args.repeats} "
                f"turns of {case.steps} steps, tissue: {drawn.origin}",
                "anchors": case.composition.batch,
                "turns": measure(case, shards, args.genes, args.repeats),
            }
            write(args.out, {**written(args.out), name: found})
    finally:
        shutil.rmtree(args.work)


def write(out: Path, results: dict[str, dict]) -> None:
    lines = [
        *table(results),
        "",
        *(f"- {line}" for line in verdict(results)),
        "",
        *(f"{model}: {of['setting']}." for model, of in results.items()),
        describe_machine("torch", "lightning", "timm", "simplejpeg"),
    ]
    write_results(out, lines, results)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
