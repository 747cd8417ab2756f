"""Time and memory of our losses beside open_clip's ClipLoss, on a CPU.

    pip download --no-deps open_clip_torch==3.3.0 && unzip -p open_clip_torch-*.whl open_clip/loss.py > clip_loss.py
    python -m benchmarks.speed.loss --clip clip_loss.py    (about ten minutes on two cores, 12 GB at the most)

One forward and backward pass over embeddings of 512 numbers, from before their normalisation to their gradients and the
temperature's, in float32. ClipLoss with local loss and gather with gradient, its exact and lean mode, between
F.normalize and exp(log_scale) as open_clip has it; ours contrasts the same pairs, minus neighbours: 64 spots a slide,
of which each names 18 that are no negatives. One thread a process; each case is a process of its own, or two gloo
processes. Seconds are CPU seconds, which other programs lengthen less than the clock's: the best of --repeats (one at
16,384 rows and more), of the slower rank. Memory is what the largest resident set has grown by since the embeddings
stand, in the larger rank; it holds their gradients. `logged` adds retrieval accuracy.
Goals: at 4,096 to 16,384 rows no slower and smaller than ClipLoss; ours at 32,768 below 4 GiB.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional

from benchmarks.machine import describe_machine, read_memory, write_results
from stalign_pl.batch.spot_ids import SpotIds
from stalign_pl.distributed import World
from stalign_pl.objectives import Pairs, Retrieval, pairwise_sigmoid, symmetric_info_nce

DIM, SLIDE, LIMIT = 512, 64, 4 * 2**30
COMPARED = (4096, 8192, 16384)
KINDS = ("clip", "info_nce", "info_nce, logged", "sigmoid")


def spot_ids(rows: int, world: World) -> SpotIds:
    """This rank's part of a global batch: 64 spots a slide, drawn from 2,500, each with 18 excluded ones."""
    generator = torch.Generator().manual_seed(0)
    number = torch.arange(rows)
    spot = torch.cat([torch.randperm(2500, generator=generator)[:SLIDE] for _ in range(rows // SLIDE)])
    near = torch.tensor([1, 2, 49, 50, 51, 99, 100, 101, 102])
    excluded = (spot[:, None] + torch.cat((near, -near))).clamp(min=-1)
    here = world.rows(rows // world.size)
    return SpotIds((number // SLIDE)[here], spot[here], excluded[here], torch.ones(rows, dtype=torch.bool)[here])


def loss_of(kind: str, a: Tensor, b: Tensor, log_scale: Tensor, ids: SpotIds, world: World, clip: Path) -> Tensor:
    """One loss, as a training step calls for it. The batch's ids and pairs are part of ours."""
    if kind == "clip":
        spec = importlib.util.spec_from_file_location("clip_loss", clip)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        loss = module.ClipLoss(local_loss=True, gather_with_grad=True, rank=world.rank, world_size=world.size)
        return loss(functional.normalize(a, dim=1), functional.normalize(b, dim=1), log_scale.exp())
    pairs = Pairs(ids, world)
    if kind == "sigmoid":
        return pairwise_sigmoid(a, b, log_scale, torch.tensor(-10.0, requires_grad=True), pairs).loss
    retrieval = Retrieval(pairs, torch.float32) if kind.endswith("logged") else None
    loss = symmetric_info_nce(a, b, log_scale, pairs, retrieval).loss
    if retrieval is not None:
        retrieval.shares("spot")
    return loss


def measure(kind: str, rows: int, repeats: int, clip: Path, rank: int, size: int, store: str) -> None:
    """In a process of its own; the last line printed is JSON."""
    torch.set_num_threads(1)
    if size > 1:
        dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=size)
    world = World.current()
    generator = torch.Generator().manual_seed(1 + rank)
    a, b = (torch.randn(rows // size, DIM, generator=generator).requires_grad_() for _ in range(2))
    log_scale = torch.tensor(2.659).requires_grad_()
    small = [tensor[:SLIDE].detach().requires_grad_() for tensor in (a, b)]
    loss_of(kind, *small, log_scale, spot_ids(SLIDE * size, world), world, clip).backward()
    ids, before, taken, clock = spot_ids(rows, world), read_memory("VmRSS"), [], []
    for _ in range(repeats):
        a.grad = b.grad = None
        started, ticking = time.process_time(), time.perf_counter()
        loss_of(kind, a, b, log_scale, ids, world, clip).backward()
        taken.append(time.process_time() - started)
        clock.append(time.perf_counter() - ticking)
    found = {"seconds": min(taken), "clock": min(clock), "bytes": read_memory("VmHWM") - before}
    if size > 1:
        dist.barrier()
        dist.destroy_process_group()
    print(json.dumps(found))


def in_children(kind: str, rows: int, size: int, repeats: int, clip: Path) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        common = [
            sys.executable,
            "-m",
            "benchmarks.speed.loss",
            "--child",
            kind,
            "--rows",
            str(rows),
            "--clip",
            str(clip),
        ]
        common += ["--size", str(size), "--repeats", str(repeats), "--store", f"{folder}/store"]
        started = [
            subprocess.Popen([*common, "--rank", str(rank)], stdout=subprocess.PIPE, text=True) for rank in range(size)
        ]
        printed = [child.communicate()[0] for child in started]
    if any(child.returncode for child in started):
        sys.exit(f"{kind}, {rows} rows, {size} processes failed")
    found = [json.loads(text.splitlines()[-1]) for text in printed]
    return {name: max(one[name] for one in found) for name in found[0]}


def table(results: list[dict]) -> list[str]:
    lines = ["| processes | rows | loss | CPU s | of ClipLoss | MiB | of ClipLoss |", "|---" * 7 + "|"]
    for case in results:
        clip = next((of for of in results if of["kind"] == "clip" and of["of"] == case["of"]), None)
        ratios = [f"{case[name] / clip[name]:.2f}" if clip else "-" for name in ("seconds", "bytes")]
        size, rows = case["of"]
        cells = [str(size), f"{rows:,}", case["kind"], f"{case['seconds']:.2f}", ratios[0]]
        lines.append("| " + " | ".join([*cells, f"{case['bytes'] / 2**20:,.0f}", ratios[1]]) + " |")
    return lines


def verdict(results: list[dict]) -> list[str]:
    """The goals, met or missed, from the results."""
    clips = {tuple(case["of"]): case for case in results if case["kind"] == "clip"}
    ours = [case for case in results if case["kind"] == "info_nce, logged" and tuple(case["of"]) in clips]
    missed = [
        f"{case['of'][1]:,} rows on {case['of'][0]}: {name} {case[name] / clips[tuple(case['of'])][name]:.2f}"
        for case in ours
        for name in ("seconds", "bytes")
        if case[name] > clips[tuple(case["of"])][name]
    ]
    large = max((case["bytes"] for case in results if case["of"][1] == 32768), default=None)
    lines = [f"InfoNCE with logging no slower and smaller than ClipLoss: {'; '.join(missed) or 'in every case'}"]
    if large is not None:
        lines.append(f"32,768 rows: {large / 2**30:.2f} GiB at most, {'below' if large < LIMIT else 'ABOVE'} 4 GiB")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clip", type=Path, required=True, help="open_clip/loss.py")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/loss"))
    parser.add_argument("--repeats", type=int, default=2)
    for name in ("rows", "size", "rank"):
        parser.add_argument(f"--{name}", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--child", choices=KINDS, help=argparse.SUPPRESS)
    parser.add_argument("--store", default="", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        measure(args.child, args.rows, args.repeats, args.clip, args.rank, args.size, args.store)
        return
    cases = [(kind, size, rows) for size in (1, 2) for rows in COMPARED for kind in KINDS]
    cases += [(kind, 1, 32768) for kind in KINDS[2:]]
    results = []
    for kind, size, rows in cases:
        repeats = args.repeats if rows <= 8192 else 1
        results.append({"kind": kind, "of": [size, rows], **in_children(kind, rows, size, repeats, args.clip)})
        print(table([*results][-1:])[-1], flush=True)
    lines = [*table(results), "", *(f"- {line}" for line in verdict(results)), "", describe_machine("torch")]
    lines.append("ClipLoss of open_clip_torch 3.3.0, local loss, gather with gradient.")
    write_results(args.out, lines, results)
    print("\n".join(verdict(results)))


if __name__ == "__main__":
    main()
