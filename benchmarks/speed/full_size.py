"""The paper's recipe at full size on a CPU: what trains, what a step costs in memory and time.

    python -m benchmarks.speed.full_size    (about five minutes, 9 GB)

ViT-L/16 of UNI's shape frozen, ResNet-50 trained, 19,264 genes (scGPT's spot encoder is a GeneMLP here), ABFN, three
losses, random weights, batch 8 of 224 px, float32. A step is the forward and backward pass and AdamW. Each case is a
process of its own with one thread; the first step, which allocates the optimiser's state, is not timed; seconds are CPU
seconds, the median of --repeats steps. Memory is the largest resident set of the process, imports included.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.machine import describe_machine, read_memory, write_results
from benchmarks.speed.training_models import UNI
from stalign_pl.batch.gene_panel import GenePanel
from stalign_pl.batch.inputs import ModelInputs
from stalign_pl.batch.spot_ids import SpotIds
from stalign_pl.models import ABFN, GeneMLP, LastBlocks, LowRank, NicheGeneTransformer, STAlign, TimmStream
from stalign_pl.objectives import ThreeLevelLoss

GENES, ROWS, SIZE = 19_264, 8, 224
CASES = {
    "the paper: ViT-L frozen": {"trains": "none"},
    "ViT-L, last 2 blocks": {"trains": LastBlocks(2)},
    "ViT-L, adapters of rank 8": {"trains": LowRank(8)},
    "ViT-L, adapters of rank 8, checkpointing": {"trains": LowRank(8), "gradient_checkpointing": True},
}


def build(niche: dict) -> STAlign:
    names, statistics = ("",) * GENES, np.ones(GENES, np.float32)
    return STAlign(
        GenePanel(names, names, 0 * statistics, statistics),
        spot_image=partial(TimmStream, name="resnet50", size=SIZE),
        niche_image=partial(TimmStream, name="vit_large_patch16_224", size=SIZE, model_args=UNI, **niche),
        spot_gene=partial(GeneMLP, hidden=1024),
        niche_gene=NicheGeneTransformer,
        fusion=ABFN,
        tokens=8,
        width=512,
        dim=512,
    )


def batch() -> tuple[ModelInputs, SpotIds]:
    generator = torch.Generator().manual_seed(0)
    image, genes = partial(torch.rand, ROWS, 3, SIZE, SIZE), partial(torch.randn, ROWS, GENES)
    inputs = [make(generator=generator) for make in (image, genes, image, genes)]
    every = torch.ones(ROWS, dtype=torch.bool)
    number = torch.arange(ROWS)
    ids = SpotIds(number // 4, number, torch.full((ROWS, 1), -1), every)
    return ModelInputs(*inputs, torch.ones(ROWS, GENES, dtype=torch.bool)), ids


def measure(case: str, repeats: int) -> None:
    """In a process of its own; the last line printed is JSON."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model, objective = build(CASES[case]).train(), ThreeLevelLoss()
    learning = [p for p in [*model.parameters(), *objective.parameters()] if p.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=1e-4)
    inputs, ids = batch()
    taken = []
    for _ in range(repeats + 1):
        started = time.process_time()
        optimizer.zero_grad()
        loss = objective(model(inputs), ids).total
        loss.backward()
        optimizer.step()
        taken.append(time.process_time() - started)
    if not all(p.grad is not None for p in learning) or not loss.isfinite():
        sys.exit(f"{case}: a parameter without gradient, or a loss of {loss}")
    trained = sum(p.numel() for p in learning)
    found = {
        "case": case,
        "trained": trained,
        "frozen": sum(p.numel() for p in model.parameters()) + sum(p.numel() for p in objective.parameters()) - trained,
        "bytes": read_memory("VmHWM"),
        "seconds": statistics.median(taken[1:]),
    }
    print(json.dumps(found))


def table(results: list[dict]) -> list[str]:
    lines = ["| | trained, M | frozen, M | peak, GiB | CPU s a step |", "|---" * 5 + "|"]
    for found in results:
        numbers = [found["trained"] / 1e6, found["frozen"] / 1e6, found["bytes"] / 2**30, found["seconds"]]
        cells = [f"{value:.{digits}f}" for value, digits in zip(numbers, (1, 1, 2, 1), strict=True)]
        lines.append("| " + " | ".join([found["case"], *cells]) + " |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/full_size"))
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--cases", choices=CASES, nargs="*", default=list(CASES))
    parser.add_argument("--child", choices=CASES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        measure(args.child, args.repeats)
        return
    results = []
    for case in args.cases:
        command = [sys.executable, "-m", "benchmarks.speed.full_size", "--child", case, "--repeats", str(args.repeats)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        results.append(json.loads(done.stdout.splitlines()[-1]))
        print(table(results)[-1], flush=True)
    lines = [*table(results), "", f"Batch {ROWS}, {SIZE} px, {GENES:,} genes, float32, one thread."]
    lines += ["", describe_machine("torch", "timm")]
    write_results(args.out, lines, results)


if __name__ == "__main__":
    main()
