"""What reading costs: CPU time a spot-niche pair, against decoding the same bytes and against two stock pipelines.

    python benchmarks/loader.py                                      (about five minutes on two cores)

One slide of 2,452 synthetic spots with 220 px spot and 224 px niche JPEGs and about 3,000 genes a spot is built; 531
links to its files stand for the corpus of 1.3 M spots. CPU time is that of all threads and processes. Contenders take
turns, and the median of their rounds is shown. Files are in the page cache: this is about processors, not disks.

- decode: torchvision.io.decode_jpeg of the same bytes, one thread, each picture into a tensor that is dropped.
- ours: BatchLoader to a finished batch on the host, niche of K spots; and without checksums.
- npz: the authors' layout, an uncompressed .npz a sample and modality (pixels, dense float32 genes of a 4,384 gene
  panel, the niche's mean worked out beforehand), stock DataLoader. Nothing has to be decoded, 5 times the bytes.
- webdataset: WebDataset and WebLoader on our tar, as its documentation has it: shuffle buffer, decode("rgb8"), batched.
  Own genes alone, for a stock pipeline cannot look up a niche.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import torch
import torchvision
from linked_corpus import build_corpus
from machine import machine, memory

from stalign_pl.data.loader import BatchLoader
from stalign_pl.data.niche import NicheConfig
from stalign_pl.data.plan import Composition, training_plan
from stalign_pl.data.reader import BatchReader
from stalign_pl.data.shards import ShardSet, SlideShard, TarBytes
from stalign_pl.shard_format import replacing, write_json

SPOTS, SLIDES, PANEL = 2452, 531, 4384
BATCH, BATCHES, ROUNDS = Composition(8, 64, 8), 3, 3
PAIRS = BATCHES * BATCH.batch
NICHES = {"ours, K = 3": NicheConfig(k=3), "ours, K = 18": NicheConfig(k=18, rings=2)}


def cpu() -> float:
    """Seconds of processor time of this process, its threads and its finished children."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(part.ru_utime + part.ru_stime for part in used)


def cost(work: Callable[[], int]) -> float:
    """CPU microseconds a pair; `work` returns how many it read."""
    started = cpu()
    pairs = work()
    return (cpu() - started) / pairs * 1e6


def loader(slides: dict[int, SlideShard], niche: NicheConfig, verify: bool = True) -> BatchLoader:
    sizes = {number: len(slide) for number, slide in slides.items()}
    reader = BatchReader(slides, niche, threads=2, verify=verify)
    return BatchLoader(reader, lambda epoch: training_plan(sizes, BATCH, 0, epoch))


def reading(batches: BatchLoader) -> Callable[[], int]:
    """Reads the next few batches of an epoch that goes on from call to call."""
    running = iter(batches)

    def work() -> int:
        return sum(len(next(running)) for _ in range(BATCHES))

    work()  # opens the slides, fills the buffers
    return work


def decoding(slide: SlideShard) -> Callable[[], int]:
    samples = slide.samples(np.arange(BATCH.batch), TarBytes())
    payloads = [
        torch.frombuffer(bytearray(sample[member]), dtype=torch.uint8)
        for sample in samples
        for member in ("spot", "niche")
    ]

    def work() -> int:
        for payload in payloads:
            torchvision.io.decode_jpeg(payload)
        return len(samples)

    return work


class NpzSamples(torch.utils.data.Dataset):
    """One .npz a sample and modality."""

    MODALITIES = ("spot_image", "niche_image", "spot_genes", "niche_genes")

    def __init__(self, folder: Path, slide: SlideShard) -> None:
        self.folder = folder
        reader = BatchReader({slide.record.number: slide}, NicheConfig(k=3))
        batch = reader.read(np.full(BATCH.batch, slide.record.number), np.arange(BATCH.batch), 0)
        for name in self.MODALITIES:
            (folder / name).mkdir(parents=True)
        for row in range(len(batch)):
            for name in ("spot_image", "niche_image"):
                np.savez(folder / name / f"{row}.npz", getattr(batch, name)[row].numpy())
            for name, pairs in (("spot_genes", batch.spot_counts), ("niche_genes", batch.niche_counts)):
                own = (pairs.row == row) & (pairs.gene < PANEL)
                dense = torch.zeros(PANEL).index_add_(0, pairs.gene[own].long(), pairs.count[own].float())
                np.savez(folder / name / f"{row}.npz", dense.numpy())

    def __len__(self) -> int:
        return BATCH.batch

    def __getitem__(self, row: int) -> list[torch.Tensor]:
        return [torch.from_numpy(np.load(self.folder / name / f"{row}.npz")["arr_0"]) for name in self.MODALITIES]


def npz(folder: Path, slide: SlideShard) -> Callable[[], int]:
    batches = torch.utils.data.DataLoader(NpzSamples(folder, slide), batch_size=64, shuffle=True)
    return lambda: sum(len(batch[0]) for batch in batches)


def stock_webdataset(tar: Path) -> Callable[[], int]:
    import webdataset

    def work() -> int:
        data = webdataset.WebDataset(str(tar), shardshuffle=False).shuffle(100).decode("rgb8")
        data = data.to_tuple("spot.jpg", "niche.jpg", "genes.npy", "neighbors.npy").batched(64)
        return sum(len(batch[0]) for batch in webdataset.WebLoader(data, batch_size=None, num_workers=0).slice(8))

    return work


def first_batch(folder: Path, share: float) -> float:
    """Seconds from nothing (manifest unread) to the first batch at a place of the epoch."""
    started = time.monotonic()
    batches = loader(ShardSet(folder).slides, NICHES["ours, K = 3"])
    batches.load_state_dict({"epoch": 0, "position": int(share * (len(batches) - 1)), "batches": len(batches)})
    running = iter(batches)
    next(running)
    seconds = time.monotonic() - started
    running.close()
    return seconds


def memory_of_an_epoch(slides: dict[int, SlideShard]) -> tuple[int, int]:
    """Anonymous memory after a third of an epoch and at its end, bytes."""
    batches = loader(slides, NICHES["ours, K = 3"])
    seen = []
    for _ in batches:
        seen.append(memory("RssAnon"))
    return seen[len(seen) // 3], seen[-1]


def measure(work: Path) -> dict[str, float]:
    folder = work / "corpus"
    build_corpus(folder, SPOTS, SLIDES)
    slides = ShardSet(folder).slides
    few = {number: slides[number] for number in range(10)}
    contenders = {
        "decode": decoding(slides[0]),
        **{name: reading(loader(few, niche)) for name, niche in NICHES.items()},
        "ours, K = 3, no checksums": reading(loader(few, NICHES["ours, K = 3"], verify=False)),
        "ours, K = 3, 531 slides": reading(loader(slides, NICHES["ours, K = 3"])),
        "npz": npz(work / "npz", slides[0]),
        "webdataset": stock_webdataset(folder / slides[0].record.tars[0]),
    }
    rounds = [{name: cost(contender) for name, contender in contenders.items()} for _ in range(ROUNDS)]
    found = {name: median(times[name] for times in rounds) for name in contenders}
    for share in (0.0, 0.5, 1.0):
        found[f"first batch at {share:.0%} of the epoch, s"] = first_batch(folder, share)
    early, late = memory_of_an_epoch({number: slides[number] for number in range(4)})
    found["memory at a third of an epoch, MB"], found["memory at its end, MB"] = early / 1e6, late / 1e6
    return found


def table(found: dict[str, float]) -> str:
    decode, ours = found["decode"], found["ours, K = 3"]
    contenders = [name for name in found if not name.endswith((" s", "MB"))]
    lines = ["| contender | CPU us a pair | rate against decode |", "|---|---|---|"]
    lines += [f"| {name} | {found[name]:.0f} | {decode / found[name]:.2f} |" for name in contenders]
    lines += ["", "| goal | found | met |", "|---|---|---|"]
    firsts = [value for name, value in found.items() if name.startswith("first batch")]
    many = found["ours, K = 3, 531 slides"] / ours
    growth = found["memory at its end, MB"] / found["memory at a third of an epoch, MB"]
    for goal, value, met in (
        ("rate at K = 3 at least .95 of decode", f"{decode / ours:.2f}", decode / ours >= 0.95),
        ("first batch at 1.3 M spots under 5 s, anywhere", f"{max(firsts):.1f} s at most", max(firsts) < 5),
        ("531 slides cost within 10 % of 10", f"{many - 1:+.1%}", abs(many - 1) <= 0.1),
        ("memory flat over an epoch (within 5 %)", f"{growth - 1:+.1%}", growth <= 1.05),
    ):
        lines.append(f"| {goal} | {value} | {'yes' if met else 'no'} |")
    checksum = ours - found["ours, K = 3, no checksums"]
    lines += [
        "",
        f"Checksums: {checksum:.0f} us a pair, {checksum / ours:.1%}. Against npz: {found['npz'] / ours:.2f} times its "
        f"rate; against webdataset: {found['webdataset'] / ours:.2f} times.",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/loader"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as work:
        found = measure(Path(work))
    used = machine("numpy", "torch", "torchvision", "simplejpeg", "webdataset")
    text = f"{table(found)}\n\n{used}\n"
    args.out.mkdir(parents=True, exist_ok=True)
    with replacing(args.out / "table.md") as temporary:
        temporary.write_text(text)
    write_json(args.out / "results.json", found)
    print(text)


if __name__ == "__main__":
    main()
