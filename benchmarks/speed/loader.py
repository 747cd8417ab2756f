"""The loader beside decoding alone, the authors' files behind a DataLoader, and webdataset's pipeline.

    python -m benchmarks.speed.loader    (a few minutes on two cores; 1 GB under --work)

Pairs of 224 px pictures (JPEG, 4:4:4, quality 92) of a real section where it is at hand, 3,000 genes a spot, all from
the page cache. Cost is CPU seconds a pair over all processes and threads: of `BatchLoader` over chunks of an epoch's
plan (16 slides x 64 spots), once its buffers exist, as one of four processes reads it (256 rows a batch) with one
decoding thread; at K = 3 also with two, and as a single process does (1,024 rows). Of the stock loaders over about half
as many pairs, their worker processes included.
torchvision's decoder is called without its Python function, which since 0.29 warns at every call that it is
deprecated; that function stands beside it. All cases take turns, --repeats times, of two passes each: the second is
counted. In the first, memory that lay idle for the other cases' turns is dear to touch, which a training run, whose
loader is never idle so long, does not see; its ratio stands beside. The table has medians, the ratio is the median of
the turns' ratios.
Goal: at K = 3, with one decoding thread and with two, at least 0.95 of the rate at which torchvision decodes the same
bytes in one thread.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch

from benchmarks.machine import describe_machine, write_results
from benchmarks.speed import pair_set
from benchmarks.speed.stock_loaders import columns_of, files_loader, webdataset_loader, write_files
from stalign_pl.data.epoch.plan import Composition, Plan, plan_training
from stalign_pl.data.niches.config import NicheConfig
from stalign_pl.data.reading.loader import BatchLoader
from stalign_pl.data.reading.reader import BatchReader
from stalign_pl.data.shards.shard_set import ShardSet, SlideShard
from stalign_pl.data.shards.tar_bytes import TarBytes

NICHES = {"K = 3": NicheConfig(k=3), "K = 6": NicheConfig(k=6), "K = 18": NicheConfig(k=18, rings=2)}
PROCESSES = 4
GOAL, OURS, TWO_THREADS = 0.95, "ours, K = 3", "ours, K = 3, two decoding threads"
REFERENCE, FUNCTION = "torchvision's decode_jpeg, one thread", "the same by torchvision.io.decode_jpeg"
STOCK_BATCH = 64
Case = tuple[int, Callable[[], None]]
"""Pairs, and what reads so many."""


def cpu_seconds() -> float:
    """Of this process with all its threads, and of the child processes that have ended."""
    of_children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + of_children.ru_utime + of_children.ru_stime


def pictures(slides: dict[int, SlideShard], pairs: int) -> list[bytes]:
    """The encoded pictures of so many pairs."""
    tars, found = TarBytes(), []
    for slide in slides.values():
        for run in slide.runs(np.arange(len(slide)), tars):
            found += [bytes(run.payload(number, member)) for number in range(len(run.spots)) for member in (0, 1)]
    tars.close()
    return found[: 2 * pairs]


def decoding(encoded: list[bytes]) -> dict[str, Callable[[], None]]:
    """Decoding alone, in one thread, from memory."""
    import simplejpeg
    import torchvision.io

    tensors = [torch.frombuffer(bytearray(picture), dtype=torch.uint8) for picture in encoded]

    def by_torchvision() -> None:
        for picture in tensors:
            torch.ops.image.decode_jpeg(picture, torchvision.io.ImageReadMode.UNCHANGED.value, False)

    def by_its_function() -> None:
        for picture in tensors:
            torchvision.io.decode_jpeg(picture)

    def by_simplejpeg() -> None:
        for picture in encoded:
            simplejpeg.decode_jpeg(picture)

    return {REFERENCE: by_torchvision, FUNCTION: by_its_function, "simplejpeg, one thread": by_simplejpeg}


class OurEpoch:
    """Each call reads the next `pairs` pairs of the plan."""

    def __init__(
        self,
        slides: dict[int, SlideShard],
        niche: NicheConfig,
        composition: Composition,
        pairs: int,
        processes: int,
        threads: int,
    ) -> None:
        plan = plan_training({number: len(slide) for number, slide in slides.items()}, composition, 0, 0)
        batches = pairs * processes // composition.batch

        def chunk(epoch: int) -> Plan:
            start = epoch * batches % (len(plan) - batches + 1)
            return Plan(plan.slide[start : start + batches], plan.rank[start : start + batches])

        self.reader = BatchReader(slides, niche, threads=threads)
        self.loader = BatchLoader(self.reader, chunk, 0, processes)

    def __call__(self) -> None:
        self.loader.set_epoch(self.loader.epoch + 1)
        for batch in self.loader:
            assert batch.valid.all()


def exhausted(loader: Iterable[object]) -> Callable[[], None]:
    def run() -> None:
        for _ in loader:
            pass

    return run


def cases(work: Path, pairs: int, workers: int) -> dict[str, Case]:
    """Name -> what reads `pairs` pairs, or half of them; files that a case needs are written under `work`."""
    shards = ShardSet(work / "shards")
    slides = shards.slides
    composition = Composition(len(slides), min(64, pairs // len(slides) // PROCESSES), 8)
    ours = {
        f"ours, {name}": OurEpoch(slides, niche, composition, pairs, PROCESSES, 1) for name, niche in NICHES.items()
    }
    ours[TWO_THREADS] = OurEpoch(slides, NICHES["K = 3"], composition, pairs, PROCESSES, 2)
    ours[f"{TWO_THREADS}, one process"] = OurEpoch(slides, NICHES["K = 3"], composition, pairs, 1, 2)
    stock: dict[str, Case] = {}
    few = pairs // 2
    for compressed in (False, True):
        folder = work / ("npz-compressed" if compressed else "npz")
        folder.mkdir()
        first = 0
        for batch in ours[OURS].loader:
            if first < few:
                write_files(folder, columns_of(batch), first, compressed)
                first += len(batch)
        name = "one .npz a sample and modality" + (", compressed" if compressed else "")
        stock[f"{name}, DataLoader"] = few, exhausted(files_loader(folder, few, STOCK_BATCH, workers))
    used = [slides[number] for number in sorted(slides)[: 1 + few // len(slides[min(slides)])]]
    tars = [str(shards.folder / tar) for slide in used for tar in slide.record.tars]
    stock["webdataset + WebLoader, without niche genes"] = (
        sum(len(slide) for slide in used),
        exhausted(webdataset_loader(tars, STOCK_BATCH, workers)),
    )
    return {name: (pairs, run) for name, run in {**decoding(pictures(slides, pairs)), **ours}.items()} | stock


def measure(cases: dict[str, Case], repeats: int) -> dict[str, list[list[float]]]:
    """Case -> microseconds a pair, each turn: CPU, by the clock, and CPU of the pass before."""
    found: dict[str, list[list[float]]] = {name: [] for name in cases}
    for _ in range(repeats):
        for name, (pairs, run) in cases.items():
            before = cpu_seconds()
            run()
            cpu, wall = cpu_seconds(), time.perf_counter()
            run()
            taken = cpu_seconds() - cpu, time.perf_counter() - wall, cpu - before
            found[name].append([1e6 * seconds / pairs for seconds in taken])
    return found


def share(found: dict[str, list[list[float]]], name: str, of: int = 0) -> float:
    """The case's rate by CPU time as a share of the reference's: the median of the turns' ratios.

    Args:
        of: 0, the counted pass; 2, the one before.
    """
    return float(np.median(np.array(found[REFERENCE])[:, of] / np.array(found[name])[:, of]))


def table(found: dict[str, list[list[float]]]) -> list[str]:
    lines = [
        "| | CPU us a pair | pairs a second of one core | of torchvision's rate | in the pass before | by the clock |",
        "|---" * 6 + "|",
    ]
    for name, turns in found.items():
        cpu, wall, _ = np.median(np.array(turns), axis=0)
        shares = f"{share(found, name):.2f} | {share(found, name, 2):.2f}"
        lines.append(f"| {name} | {cpu:,.0f} | {1e6 / cpu:,.0f} | {shares} | {1e6 / wall:,.0f} |")
    return lines


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=2048, help="pairs a turn")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--workers", type=int, default=2, help="worker processes of the stock loaders")
    parser.add_argument("--section", type=Path, default=pair_set.SECTION, help="folder of a section's JPEG")
    parser.add_argument("--work", type=Path, default=Path("runs/loader"), help="written here and removed")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/loader"))
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    shutil.rmtree(args.work, ignore_errors=True)
    (args.work / "shards").mkdir(parents=True)
    try:
        drawn = pair_set.texture(args.section)
        count = 16 if args.pairs >= 1024 else 2  # slides; four processes' chunks of the plan are skipped over
        pair_set.build(args.work / "shards", [max(5 * args.pairs // count, 64)] * count, drawn)
        sizes = pair_set.picture_bytes(ShardSet(args.work / "shards").slides)
        found = measure(cases(args.work, args.pairs, args.workers), args.repeats)
    finally:
        shutil.rmtree(args.work)
    reached = {name: share(found, name) for name in (OURS, TWO_THREADS)}
    verdicts = [
        f"- {name}: at least {GOAL} of torchvision's rate: {'met' if of >= GOAL else 'MISSED'}, {of:.2f}"
        for name, of in reached.items()
    ]
    lines = [
        f"{args.pairs:,} pairs a turn, {args.repeats} turns; tissue: {drawn.origin}; bytes a picture: spot "
        f"{sizes['spot']:,.0f}, niche {sizes['niche']:,.0f}.",
        "",
        *table(found),
        "",
        *verdicts,
        "",
        describe_machine("numpy", "torch", "torchvision", "simplejpeg", "imagecodecs", "webdataset"),
    ]
    write_results(args.out, lines, {"pairs": args.pairs, "bytes": sizes, "us_a_pair": found, "share": reached})
    print("\n".join(lines))


if __name__ == "__main__":
    main()
