"""Reading the paper's corpus, 531 slides and 1.3 M spots: the first batch, an epoch's memory, the cost of many slides.

    python -m benchmarks.speed.start    (about five minutes on two cores; 2 GB under --work)

The slides have the sizes of the catalogue of STimage-1K4M (human, Visium, 50 spots or more), in --groups groups of
like size: one slide a group is built, at the group's mean size, and links to its files stand for the others. Its
pictures have 28 px, and a spot has 300 genes, so that what does not shrink with them is seen.
First batch: from `STAlignData` and its training loader as `fit` makes them (manifest, division by patient, gene table,
plan) to the batch at a position of the epoch, in new objects each time; `cold` with all files dropped from the page
cache before. Not in it: importing torch, and what a run does once, whatever the position: choice of genes and colours
of slides, which stand beside it.
Memory: the most of the process's own (RssAnon) in each tenth of one epoch, or of what of it is read in --minutes.
Cost: CPU seconds a pair of batches of 10 and of all slides, once every slide's index is in memory, for the small
pictures and for links to one slide of 224 px ones; both read in turns, medians.
Goals: first batch in 5 s at any position; memory in the epoch's second half no more than 64 MiB above the first's;
a pair's cost among 531 slides within a tenth of that among 10.
"""

from __future__ import annotations

import argparse
import csv
import os
import shutil
import time
from pathlib import Path

import numpy as np
from lightning import Trainer

from benchmarks.machine import describe_machine, growth_between_halves, read_memory, write_results
from benchmarks.speed import pair_set
from benchmarks.speed.linked_slides import link
from stalign_pl.data.datamodule import STAlignData
from stalign_pl.data.epoch.plan import Composition, Plan, plan_training
from stalign_pl.data.niches.config import NicheConfig
from stalign_pl.data.reading.loader import BatchLoader
from stalign_pl.data.reading.reader import BatchReader
from stalign_pl.data.shards.shard_set import ShardSet
from stalign_pl.shard_format import Manifest

GOAL_SECONDS, GOAL_GROWTH, GOAL_COST = 5.0, 64 << 20, 0.1
FEW, POSITIONS = 10, (0.0, 0.25, 0.5, 0.75, 1.0)
MIB = 1 << 20


def catalogue_sizes(path: Path) -> list[int]:
    """Spots of each human Visium slide of 50 spots or more, ascending."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["species"] == "human" and row["tech"] == "Visium"]
    return sorted(size for size in (int(row["spot_num"]) for row in rows) if size >= 50)


def build_linked(
    folder: Path, sizes: list[int], groups: int, drawn: pair_set.Texture, side: int, genes_a_spot: int
) -> None:
    """A set of as many slides as `sizes`, links to one slide a group of like size."""
    folder.mkdir(parents=True)
    parts = np.array_split(np.sort(sizes), groups)
    built = pair_set.build(folder, [round(part.mean()) for part in parts], drawn, side, genes_a_spot)
    originals = [record for record, part in zip(built.slides, parts, strict=True) for _ in part]
    order = np.random.default_rng(0).permutation(len(originals))
    records = tuple(link(folder, originals[place], number) for number, place in enumerate(order.tolist()))
    Manifest(built.gene_table, built.genes, built.settings, records).write(folder)


def drop_from_cache(folder: Path) -> None:
    """Ask the kernel to forget the folder's files, so that the next read is the disk's."""
    for path in folder.iterdir():
        if not path.is_symlink():
            descriptor = os.open(path, os.O_RDONLY)
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


def opened(folder: Path, composition: Composition) -> STAlignData:
    """The set as `fit` opens it, with all its slides to train on."""
    data = STAlignData(str(folder), composition=composition)
    data.trainer = Trainer(accelerator="cpu", devices=1, logger=False, enable_checkpointing=False)
    data.prepare_data()
    data.setup("fit")
    return data


def first_batch(folder: Path, composition: Composition, position: float, cold: bool) -> float:
    """Seconds from nothing to the batch at a position of epoch 0 (0 to 1)."""
    if cold:
        drop_from_cache(folder)
    started = time.perf_counter()
    loader = opened(folder, composition).train_dataloader()
    loader.load_state_dict({"epoch": 0, "position": round(position * (len(loader) - 1)), "batches": len(loader)})
    batches = iter(loader)
    batch = next(batches)
    taken = time.perf_counter() - started
    assert batch.valid.any()
    batches.close()
    loader.reader.close()
    return taken


def once(folder: Path, composition: Composition) -> dict[str, float]:
    """Seconds of what a run does once."""
    data, seconds = opened(folder, composition), {}
    for name, make in (("genes", lambda: data.vocabulary), ("colours", lambda: data.transform)):
        started = time.perf_counter()
        make()
        seconds[name] = time.perf_counter() - started
    return seconds


def epoch(folder: Path, composition: Composition, minutes: float) -> dict[str, object]:
    """One epoch, or what of it is read in so long: pairs, CPU seconds, the most memory of its own in each tenth."""
    loader = opened(folder, composition).train_dataloader()
    cpu, started, pairs, own = time.process_time(), time.perf_counter(), 0, []
    for batch in loader:
        pairs += int(batch.valid.sum())
        own.append(read_memory("RssAnon"))
        if time.perf_counter() - started > 60 * minutes:
            break
    cpu = time.process_time() - cpu
    loader.reader.close()
    total = sum(len(slide) for slide in loader.reader.slides.values())
    if len(own) == len(loader) and pairs != total:
        raise SystemExit(f"the epoch had {pairs:,} spots, not as many as the set")
    tenths = np.array_split(np.array(own), min(10, len(own)))
    return {"pairs": pairs, "total": total, "cpu": cpu, "own_by_tenth": [int(part.max()) for part in tenths]}


class Chunks:
    """Each call reads the next `batches` batches of the plan over some slides."""

    def __init__(self, slides: dict, composition: Composition, batches: int) -> None:
        sizes = {number: len(slide) for number, slide in slides.items()}
        plan = plan_training(sizes, composition, 0, 0)
        self.batches = min(batches, len(plan) - 1)

        def chunk(epoch: int) -> Plan:
            start = epoch * self.batches % (len(plan) - self.batches)
            return Plan(plan.slide[start : start + self.batches], plan.rank[start : start + self.batches])

        self.loader = BatchLoader(BatchReader(slides, NicheConfig()), chunk)
        for slide in slides.values():
            assert len(slide.spot_of_rank) == len(slide.index)

    def cost(self) -> float:
        """CPU microseconds a pair."""
        self.loader.set_epoch(self.loader.epoch + 1)
        started, pairs = time.process_time(), 0
        for batch in self.loader:
            pairs += len(batch)
        return 1e6 * (time.process_time() - started) / pairs


def cost(folder: Path, composition: Composition, batches: int, repeats: int) -> dict[str, list[float]]:
    """CPU microseconds a pair among few slides and among all, a turn each."""
    slides = ShardSet(folder).slides
    some = {number: slides[number] for number in sorted(slides, key=lambda number: -len(slides[number]))[:FEW]}
    cases = {"few": Chunks(some, composition, batches), "all": Chunks(slides, composition, batches)}
    found: dict[str, list[float]] = {name: [] for name in cases}
    for turn in range(repeats + 1):  # the first is a warm-up
        for name, case in cases.items():
            taken = case.cost()
            if turn:
                found[name].append(taken)
    for case in cases.values():
        case.loader.reader.close()
    return found


def ratio(found: dict[str, list[float]]) -> float:
    return float(np.median(np.array(found["all"]) / np.array(found["few"])))


def table(found: dict) -> list[str]:
    names = {"warm": "files in the page cache", "cold": "files dropped from it"}
    lines = ["| first batch, s, at | " + " | ".join(f"{place:.0%}" for place in POSITIONS) + " |", "|---" * 6 + "|"]
    for kind, title in names.items():
        lines.append(f"| {title} | " + " | ".join(f"{taken:.2f}" for taken in found["first"][kind]) + " |")
    of = found["once"]
    lines += ["", f"Once a run, s: choice of genes {of['genes']:.1f}, colours of slides {of['colours']:.1f}."]
    of = found["epoch"]
    own = " ".join(f"{value / MIB:,.0f}" for value in of["own_by_tenth"])
    lines += ["", "| | |", "|---|---|", f"| pairs read of an epoch of {of['total']:,} | {of['pairs']:,} |"]
    lines.append(f"| CPU us a pair (28 px, 300 genes) | {1e6 * of['cpu'] / of['pairs']:.0f} |")
    lines.append(f"| most memory of its own in each tenth, MiB | {own} |")
    for kind, title in (("small", "28 px"), ("large", "224 px")):
        few, every = (float(np.median(found["cost"][kind][name])) for name in ("few", "all"))
        lines.append(f"| CPU us a pair of {title}, {FEW} slides / {found['slides']} slides | {few:.0f} / {every:.0f} |")
    return lines


def verdict(found: dict) -> list[str]:
    worst = max(max(found["first"]["warm"]), max(found["first"]["cold"]))
    growth = growth_between_halves(found["epoch"]["own_by_tenth"])
    lines = [
        f"first batch in {GOAL_SECONDS:.0f} s: {'met' if worst < GOAL_SECONDS else 'MISSED'}, {worst:.2f} at the most",
        f"memory flat: {'met' if growth <= GOAL_GROWTH else 'MISSED'}, {growth / MIB:+,.0f} MiB in the second half",
    ]
    for kind, title in (("small", "28 px"), ("large", "224 px")):
        more = ratio(found["cost"][kind]) - 1
        met = "met" if more <= GOAL_COST else "MISSED"
        lines.append(
            f"cost of a pair of {title} among {found['slides']} slides: {met}, {more:+.1%} of that among {FEW}"
        )
    return lines


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path("../shared/data/stimage1k4m/meta_all_gene02122025.csv")
    parser.add_argument("--catalogue", type=Path, default=default, help="of STimage-1K4M, February 2025")
    parser.add_argument("--tiny", action="store_true", help="12 small slides: does it run?")
    parser.add_argument("--groups", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--minutes", type=float, default=10, help="after which an epoch is cut off")
    parser.add_argument("--section", type=Path, default=pair_set.SECTION, help="folder of a section's JPEG")
    parser.add_argument("--work", type=Path, default=Path("runs/start"), help="written here and removed")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/start"))
    args = parser.parse_args(argv)
    sizes = [64] * 6 + [76] * 6 if args.tiny else catalogue_sizes(args.catalogue)
    groups, like = (2, 64) if args.tiny else (args.groups, round(float(np.mean(sizes))))
    composition, batches = (Composition(4, 8, 8), 4) if args.tiny else (Composition(), 4)
    shutil.rmtree(args.work, ignore_errors=True)
    small, large = args.work / "small", args.work / "large"
    try:
        drawn = pair_set.texture(args.section)
        build_linked(small, sizes, groups, drawn, side=28, genes_a_spot=300)
        build_linked(large, [like] * len(sizes), 1, drawn, side=224, genes_a_spot=3000)
        first = {
            kind: [first_batch(small, composition, position, kind == "cold") for position in POSITIONS]
            for kind in ("warm", "cold")
        }
        costs = {
            "small": cost(small, composition, 4 * batches, args.repeats),
            "large": cost(large, composition, batches, args.repeats),
        }
        found = {
            "slides": len(sizes),
            "first": first,
            "once": once(small, composition),
            "cost": costs,
            "epoch": epoch(small, composition, args.minutes),
        }
    finally:
        shutil.rmtree(args.work, ignore_errors=True)
    lines = [
        f"{len(sizes)} slides, {found['epoch']['total']:,} spots, {composition.batch} spots a batch.",
        *("", *table(found), ""),
        *(f"- {line}" for line in verdict(found)),
        *("", describe_machine("numpy", "torch", "simplejpeg", "imagecodecs")),
    ]
    write_results(args.out, lines, found)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
