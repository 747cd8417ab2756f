"""What a GPU is kept busy with: every encoder alone, the losses, the whole training step.

    python -m benchmarks.speed.gpu                        (one NVIDIA GPU; a few minutes)
    python -m benchmarks.speed.gpu --device cpu --tiny    (does it run?)

Encoders: forward and backward pass (the frozen one: forward) under bf16 autocast over resident pictures; FLOPs as
torch.utils.flop_counter counts them; MFU is their share of the peak that is measured beside it, a bf16 matrix product.
Losses: the three-level InfoNCE in float32, of bf16 embeddings under autocast, and compiled: largest difference of value
and of the embeddings' gradient. Step: Lightning's fit over the loader (bf16-mixed) beside the same model on resident
tensors, and the share of the time that it waited for data.
Goals: whole step at least 0.95 of resident tensors' rate; ViT encoders at least 0.4 MFU.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import timm
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.machine import describe_machine, write_results
from benchmarks.speed import pair_set
from benchmarks.speed.step import data_of, like, resident, whole
from benchmarks.speed.step_times import clock
from benchmarks.speed.training_models import SIZES, UNI, stalign
from stalign_pl.batch.embeddings import Embeddings
from stalign_pl.batch.spot_ids import SpotIds
from stalign_pl.data.epoch.plan import Composition
from stalign_pl.objectives import ThreeLevelLoss

STEP_GOAL, MFU_GOAL = 0.95, 0.4
REPEATS, WARM_UP = 10, 3


@dataclass(frozen=True)
class Work:
    """What is measured.

    Attributes:
        encoders: (timm name, trained, options).
        rows: pictures a pass of an encoder.
        px: side of these pictures.
        matrix: side of the matrices that the peak is measured with.
        size: of the model of the whole step, a key of SIZES.
        composition: of the whole step's batch.
        steps: of the whole step that are timed.
        loss_rows: rows of the losses' parity.
        backend: of torch.compile.
    """

    encoders: tuple[tuple[str, bool, dict], ...]
    rows: int
    px: int
    matrix: int
    size: str
    composition: Composition
    steps: int
    loss_rows: int
    backend: str


FULL = Work(
    encoders=(("resnet50", True, {}), ("vit_base_patch16_224", True, {}), ("vit_large_patch16_224", False, UNI)),
    rows=256,
    px=224,
    matrix=8192,
    size="paper",
    composition=Composition(8, 32, 8),
    steps=20,
    loss_rows=1024,
    backend="inductor",
)
TINY = Work(
    encoders=(("test_vit", True, {}), ("test_efficientnet_gn", False, {})),
    rows=2,
    px=160,
    matrix=128,
    size="tiny",
    composition=Composition(2, 4, 2),
    steps=2,
    loss_rows=32,
    backend="aot_eager",
)


def seconds(run: Callable[[], object], device: torch.device) -> float:
    """Of one call, mean after the warm-up."""
    for _ in range(WARM_UP):
        run()
    started = clock(device)
    for _ in range(REPEATS):
        run()
    return (clock(device) - started) / REPEATS


def peak_flops(side: int, device: torch.device) -> float:
    """Floating point operations a second of a square bf16 matrix product."""
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    return 2 * side**3 / seconds(lambda: a @ b, device)


@dataclass(frozen=True)
class Encoder:
    """Pictures a second, FLOPs a picture, share of the peak."""

    name: str
    trained: bool
    rate: float
    flops: float
    mfu: float


def encoder(name: str, trained: bool, options: dict, work: Work, peak: float, device: torch.device) -> Encoder:
    """Measure one encoder."""
    model = timm.create_model(name, num_classes=0, **options).to(device).train(trained).requires_grad_(trained)
    picture = torch.rand(work.rows, 3, work.px, work.px, device=device)

    def run() -> None:
        with torch.autocast(device.type, torch.bfloat16), torch.set_grad_enabled(trained):
            features = model(picture)
        if trained:
            model.zero_grad()
            features.float().square().mean().backward()

    with FlopCounterMode(display=False) as counter:
        run()
    flops = counter.get_total_flops()
    taken = seconds(run, device)
    return Encoder(name, trained, work.rows / taken, flops / work.rows, flops / taken / peak)


def losses_parity(rows: int, backend: str, device: torch.device) -> dict[str, dict[str, float]]:
    """How far the losses' value and gradient are from float32's, relative to their size: bf16 autocast, compiled."""
    generator = torch.Generator().manual_seed(0)
    leaves = [torch.randn(rows, 256, generator=generator).to(device).requires_grad_() for _ in range(6)]
    number = torch.arange(rows, device=device)
    near = torch.stack([number - 1, (number + 1) % rows], dim=1)
    ids = SpotIds(number // 64, number, near, torch.ones(rows, dtype=torch.bool, device=device))
    objective = ThreeLevelLoss().to(device)

    def loss(*embeddings: Tensor) -> Tensor:
        return objective(Embeddings(*embeddings), ids).total

    def result(function: Callable[..., Tensor], half: bool) -> tuple[Tensor, Tensor]:
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            value = function(*(leaf.bfloat16() if half else leaf for leaf in leaves))
        return value.detach(), torch.cat(torch.autograd.grad(value, leaves))

    value, gradient = result(loss, half=False)
    found = {}
    for name, function, half in (("bf16", loss, True), ("compiled", torch.compile(loss, backend=backend), False)):
        other, its = result(function, half)
        found[name] = {
            "value": float((other - value).abs() / value.abs()),
            "gradient": float((its - gradient).abs().max() / gradient.abs().max()),
        }
    return found


def step(shards: Path, work: Work, genes: int, device: torch.device) -> dict[str, float]:
    """Seconds of a whole step and of one on resident tensors; share of the time that was waited."""
    size = SIZES[work.size]
    data = data_of(shards, size, work.composition, genes)
    model = stalign(data, size)
    gpu = device.type == "cuda"
    watch = whole(data, model, work.steps, "gpu" if gpu else "cpu", "bf16-mixed")
    inputs = like(watch.inputs)
    return {
        "whole": watch.step.wall,
        "resident": resident(model.to(device), inputs, work.steps, half=True).wall,
        "waiting": watch.waiting,
        "rows": work.composition.batch,
    }


def table(encoders: list[Encoder], peak: float, parity: dict, step: dict[str, float]) -> list[str]:
    """All figures, and which goals are met."""
    lines = [f"bf16 matrix product: {peak / 1e12:,.1f} TFLOP/s", ""]
    lines += ["| encoder | pass | pictures a second | GFLOP a picture | MFU |", "|---" * 5 + "|"]
    for one in encoders:
        passes = "forward, backward" if one.trained else "forward"
        lines.append(f"| {one.name} | {passes} | {one.rate:,.0f} | {one.flops / 1e9:,.2f} | {one.mfu:.2f} |")
    lines += ["", "| losses beside float32 | value | gradient |", "|---|---|---|"]
    lines += [f"| {name} | {of['value']:.1e} | {of['gradient']:.1e} |" for name, of in parity.items()]
    share = step["resident"] / step["whole"]
    lines += ["", f"- whole step: {step['rows'] / step['whole']:,.0f} pairs a second, waits {step['waiting']:.1%}"]
    lines.append(
        f"- at least {STEP_GOAL} of resident tensors: {'met' if share >= STEP_GOAL else 'MISSED'}, {share:.2f}"
    )
    for one in encoders:
        if "vit" in one.name:
            reached = "met" if one.mfu >= MFU_GOAL else "MISSED"
            lines.append(f"- {one.name}: at least {MFU_GOAL} MFU: {reached}, {one.mfu:.2f}")
    return lines


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="small encoders and few rows")
    parser.add_argument("--genes", type=int, default=4384)
    parser.add_argument("--section", type=Path, default=pair_set.SECTION, help="folder of a section's JPEG")
    parser.add_argument("--work", type=Path, default=Path("runs/gpu"), help="written here and removed")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/gpu"))
    args = parser.parse_args(argv)
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error(
            f"no GPU: this wants an NVIDIA GPU of 40 GB or more and torch with CUDA (here: torch {torch.__version__}); "
            f"--device cpu --tiny shows that it runs"
        )
    work, device = TINY if args.tiny else FULL, torch.device(args.device)
    shutil.rmtree(args.work, ignore_errors=True)
    (args.work / "shards").mkdir(parents=True)
    try:
        drawn = pair_set.texture(args.section)
        side, sizes = (32, [32] * 2) if args.tiny else (224, [1024] * 8)
        pair_set.build(args.work / "shards", sizes, drawn, side)
        peak = float(np.median([peak_flops(work.matrix, device) for _ in range(3)]))
        encoders = [encoder(*one, work, peak, device) for one in work.encoders]
        parity = losses_parity(work.loss_rows, work.backend, device)
        measured = step(args.work / "shards", work, args.genes, device)
    finally:
        shutil.rmtree(args.work)
    where = torch.cuda.get_device_name(device) if args.device == "cuda" else "CPU"
    lines = [
        *table(encoders, peak, parity, measured),
        "",
        f"{where}; " + describe_machine("torch", "lightning", "timm"),
    ]
    found = {"peak": peak, "encoders": [asdict(one) for one in encoders], "losses": parity, "step": measured}
    write_results(args.out, lines, found)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
