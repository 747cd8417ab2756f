"""A corpus of 100,000 pairs: how fast it is built and read, what a pair takes on disk, and that memory stays flat.

    python -m benchmarks.speed.corpus    (about a quarter of an hour on one core; 8 GB under --work while it runs)

Slides of 4,000 spots and 3,000 genes a spot over a JPEG of their own at .75 um/px go through `write_slide` one after
another in one process, as a build with one worker does; making them is not counted. Another process then reads one
epoch of the training plan (16 slides x 64 spots a batch, K = 3) with the loader's own threads and no model behind it,
so the files come from the page cache where they fit.

Checked, with a failure where it does not hold: every spot comes once, and the most memory of the process's own
(RssAnon) in the epoch's second half is no more than FLAT_BYTES above the most in its first half (batches come and go,
so single moments differ by some hundred MiB). Resident memory as `top` shows it is printed beside it: it also counts
the mapped pages of the counts, which the kernel takes back when it needs them.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import describe_machine, growth_between_halves, read_memory, write_results
from benchmarks.speed import synthetic_slides as synthetic
from stalign_pl.shard_format import Manifest

PITCH_PX = 100 / 0.75
FLAT_BYTES = 64 << 20
MIB = 1 << 20


def build(out: Path, slides: int, spots: int) -> dict[str, float]:
    """Write the set."""
    from data_prep.images import make_thumbnail, open_image
    from data_prep.shards.settings import BuildSettings, CropSettings
    from data_prep.shards.write import write_slide
    from data_prep.slide.genes import GeneAxis, GeneNames, make_gene_axis
    from data_prep.slide.quality import ImageQuality

    ids = synthetic.gene_ids()
    axis: GeneAxis = make_gene_axis([GeneNames(tuple(ids), ("",) * len(ids))])
    axis.table.write(out / "genes.tsv")
    panel, image = np.arange(len(ids)), out / "image.jpeg"
    records, wall, cpu, after = [], 0.0, 0.0, []
    for number in range(slides):
        picture = synthetic.repeated(synthetic.stain(number), *synthetic.image_size(spots, PITCH_PX))
        synthetic.write_jpeg(image, picture)
        del picture
        slide = synthetic.slide(f"slide_{number:03d}", spots, image, PITCH_PX, seed=number)
        wall_started, cpu_started = time.perf_counter(), time.process_time()
        with open_image(slide.name, slide.image) as pixels:
            picture, quality, crops = make_thumbnail(pixels), ImageQuality(1.0, 1.0), CropSettings(1.0, 3.0)
            records.append(
                write_slide(out, number, slide, pixels, picture, quality, axis, panel, BuildSettings(), crops)
            )
        wall, cpu = wall + time.perf_counter() - wall_started, cpu + time.process_time() - cpu_started
        after.append(read_memory("VmRSS"))
        print(f"slide {number}: {after[-1] / MIB:,.0f} MiB resident", file=sys.stderr, flush=True)
    image.unlink()
    settings = {"synthetic": True}
    Manifest(axis.table.digest(), len(axis.table), settings, tuple(records)).write(out)
    sizes = {path: path.stat().st_size for path in out.iterdir()}
    return {
        "pairs": slides * spots,
        "build_wall": wall,
        "build_cpu": cpu,
        "build_peak": read_memory("VmHWM"),
        "build_rss_second": after[min(1, slides - 1)],
        "build_rss_last": after[-1],
        "bytes": sum(sizes.values()),
        "tar_bytes": sum(size for path, size in sizes.items() if path.suffix == ".tar"),
    }


def read(out: Path, threads: int) -> dict[str, float | list[int]]:
    """Read one epoch."""
    from stalign_pl.data.epoch.plan import Composition, plan_training
    from stalign_pl.data.niches.config import NicheConfig
    from stalign_pl.data.reading.loader import BatchLoader
    from stalign_pl.data.reading.reader import BatchReader
    from stalign_pl.data.shards.shard_set import ShardSet

    slides = ShardSet(out).slides
    sizes = {number: len(slide) for number, slide in slides.items()}
    reader = BatchReader(slides, NicheConfig(), threads=threads)
    loader = BatchLoader(reader, lambda epoch: plan_training(sizes, Composition(), 0, epoch))
    seen = {number: np.zeros(size, np.int64) for number, size in sizes.items()}
    own, resident = [], []
    wall, cpu = time.perf_counter(), time.process_time()
    for batch in loader:
        valid = batch.valid.numpy()
        for number, spot in zip(batch.slide.numpy()[valid], batch.spot.numpy()[valid], strict=True):
            seen[int(number)][spot] += 1
        own.append(read_memory("RssAnon"))
        resident.append(read_memory("VmRSS"))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    reader.close()
    if not all((times == 1).all() for times in seen.values()):
        sys.exit("some spots came not once in the epoch")
    tenths = np.array_split(np.arange(len(own)), min(10, len(own)))
    return {
        "batches": len(own),
        "read_wall": wall,
        "read_cpu": cpu,
        "threads": threads,
        "own_by_tenth": [int(np.array(own)[part].max()) for part in tenths],
        "resident_by_tenth": [int(np.array(resident)[part].max()) for part in tenths],
    }


def in_child(args: argparse.Namespace, what: str) -> dict[str, Any]:
    options = ("--slides", args.slides, "--spots", args.spots, "--work", args.work, "--threads", args.threads)
    command = [sys.executable, "-m", "benchmarks.speed.corpus", "--child", what, *map(str, options)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"{what} failed with status {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


def table(found: dict[str, Any]) -> list[str]:
    pairs = found["pairs"]
    own, resident = ([f"{value / MIB:,.0f}" for value in found[f"{kind}_by_tenth"]] for kind in ("own", "resident"))
    rows = {
        "pairs": f"{pairs:,}",
        "build, pairs a second of one core": f"{pairs / found['build_cpu']:,.0f}",
        "build, pairs a second, as it ran": f"{pairs / found['build_wall']:,.0f}",
        "build, resident after the second and the last slide, and peak, MiB": " / ".join(
            f"{found[key] / MIB:,.0f}" for key in ("build_rss_second", "build_rss_last", "build_peak")
        ),
        "bytes a pair": f"{found['bytes'] / pairs:,.0f}, of these {found['tar_bytes'] / pairs:,.0f} in tars",
        f"reading, pairs a second ({found['threads']} decoding threads)": f"{pairs / found['read_wall']:,.0f}",
        "reading, pairs a second of one core": f"{pairs / found['read_cpu']:,.0f}",
        "reading, most memory of its own in each tenth of the epoch, MiB": " ".join(own),
        "reading, resident with mapped files, MiB": " ".join(resident),
    }
    return ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slides", type=int, default=25)
    parser.add_argument("--spots", type=int, default=4000, help="spots a slide")
    parser.add_argument("--threads", type=int, default=2, help="decoding threads of the reader")
    parser.add_argument("--work", type=Path, default=Path("runs/corpus"), help="the set is written here and removed")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/corpus"))
    parser.add_argument("--child", choices=("build", "read"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        found = build(args.work, args.slides, args.spots) if args.child == "build" else read(args.work, args.threads)
        print(json.dumps(found))
        return
    shutil.rmtree(args.work, ignore_errors=True)
    args.work.mkdir(parents=True)
    try:
        found = in_child(args, "build") | in_child(args, "read")
    finally:
        shutil.rmtree(args.work)
    lines = [*table(found), "", describe_machine("numpy", "torch", "pillow", "simplejpeg", "anndata")]
    write_results(args.out, lines, found)
    print("\n".join(lines))
    growth = growth_between_halves(found["own_by_tenth"])
    if growth > FLAT_BYTES:
        sys.exit(f"memory grew by {growth / MIB:,.0f} MiB from the epoch's first half to its second")


if __name__ == "__main__":
    main()
