"""What a build costs beside the least it could: CPU seconds a spot, and peak memory.

    python -m benchmarks.speed.build_speed    (about ten minutes; 1 GB under --work while it runs)

The ceiling is measured in the same process as the build of a slide that has been read (checks, curation, a look at the
image, all files): every level of the image that is needed, decoded once into memory, and the two crops of each spot cut
from it and encoded; no tar, tables, checksums or h5ad. CPU time of the process, the better of three runs each, taken in
turns. Peak memory is that of a process of its own: its largest resident set less the one after imports and a warm-up
slide; counts and tables are in it.
Goals: at least .6 of the ceiling's rate; at most 1.5 times the decoded image for one that is decoded whole, at most
1 GiB for a pyramid of any size.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.machine import describe_machine, read_memory, write_results
from benchmarks.speed import synthetic_slides as synthetic
from data_prep.build.config import BuildConfig, SourceEntry
from data_prep.build.duplicates import make_sketch
from data_prep.build.plan import make_plan
from data_prep.build.slide_job import build_slide, curate_by_image, curate_spots
from data_prep.images import Level, choose_level, make_thumbnail, open_image
from data_prep.shards.crops import compute_crop_size, cut_crop, encode
from data_prep.shards.settings import BuildSettings, CropSettings
from data_prep.shards.write import write_slide
from data_prep.slide.curation import Curation
from data_prep.slide.genes import GeneNames, make_gene_axis
from data_prep.slide.slide import Slide
from data_prep.sources import ReaderOptions, find_source

REPEATS = 3
SPOTS, PITCH_PX = 4000, 200.0
GIGAPIXEL_SIDE, GIGAPIXEL_PITCH = 60_000, 900.0
CROPS = CropSettings(spot_scale=1.0, niche_pitches=3.0)
RULES = Curation()
CASES = ("her2st", "jpeg", "png", "tiff", "gigapixel")
TITLES = {
    "her2st": "her2st C2, JPEG (real)",
    "jpeg": "synthetic Visium, JPEG",
    "png": "synthetic Visium, PNG",
    "tiff": "synthetic Visium, pyramidal TIFF",
    "gigapixel": "synthetic, pyramidal TIFF",
}


def make_slide(case: str, data: Path, work: Path) -> Slide:
    """The case's slide; its image is written where it is not there yet."""
    if case == "her2st":
        jobs = find_source("legacy_st")(data / "her2st", ReaderOptions()).jobs
        return next(job for job in jobs if job.name == "C2").read()
    image, pitch_px = work / f"image.{case}", GIGAPIXEL_PITCH if case == "gigapixel" else PITCH_PX
    if not image.exists():
        tile, size = synthetic.stain(0), synthetic.image_size(SPOTS, pitch_px)
        if case == "jpeg":
            synthetic.write_jpeg(image, synthetic.repeated(tile, *size))
        elif case == "png":
            from PIL import Image

            Image.fromarray(synthetic.repeated(tile, *size)).save(image, "PNG", compress_level=1)
        elif case == "tiff":
            synthetic.write_pyramid(image, tile, *size, levels=4)
        else:
            synthetic.write_pyramid(image, tile, GIGAPIXEL_SIDE, GIGAPIXEL_SIDE, levels=6, quality=30)
    return synthetic.slide(case, SPOTS, image, pitch_px, seed=0)


@dataclass(frozen=True)
class InMemory:
    """Pixels of which some levels are held as arrays."""

    levels: tuple[Level, ...]
    arrays: dict[int, np.ndarray]
    band_px: int | None = None

    @property
    def width(self) -> int:
        return self.levels[0].width

    @property
    def height(self) -> int:
        return self.levels[0].height

    def region(self, x0: int, y0: int, x1: int, y1: int, level: int = 0) -> np.ndarray:
        return self.arrays[level][y0:y1, x0:x1]


def ceiling(slide: Slide, crops: CropSettings) -> float:
    """CPU seconds of decoding, cutting and encoding alone."""
    um_per_px, fill = slide.um_per_px / slide.image.scale, np.full(3, 240, np.uint8)
    sizes = [
        compute_crop_size(um, um_per_px)
        for um in (crops.spot_scale * slide.spot_um, crops.niche_pitches * slide.pitch_um)
    ]
    started = time.process_time()
    with open_image(slide.name, slide.image) as pixels:
        arrays = {}
        for number in {choose_level(pixels.levels, size.side_px / size.stored_px) for size in sizes}:
            level = pixels.levels[number]
            arrays[number] = pixels.region(0, 0, level.width, level.height, number)
        held = InMemory(pixels.levels, arrays)
        for xy in slide.xy * slide.image.scale:
            for size in sizes:
                encode(cut_crop(held, xy, size, fill), size.format)
    return time.process_time() - started


def build(slide: Slide, work: Path) -> float:
    """CPU seconds of all that a slide's job does once its files are read."""
    names = GeneNames(tuple(slide.gene_ids), tuple(slide.gene_symbols))
    axis = make_gene_axis([names])
    with tempfile.TemporaryDirectory(dir=work) as out:
        started = time.process_time()
        slide, panel = curate_spots(slide, RULES), np.arange(len(axis.table))
        with open_image(slide.name, slide.image) as pixels:
            picture = make_thumbnail(pixels)
            slide, quality = curate_by_image(slide, pixels, picture, RULES)
            write_slide(Path(out), 0, slide, pixels, picture, quality, axis, panel, BuildSettings(), CROPS)
        make_sketch(slide.barcodes, slide.counts, axis.columns(names))
        return time.process_time() - started


def real_jobs(data: Path) -> list[str]:
    """A table of whole jobs of real slides, from their files to their shards."""
    lines = [
        "Whole jobs of real slides, reading of counts and positions included; of thumbnails there is next to nothing "
        "to decode, so that the ceiling is the encoding of pictures of 4 to 20 px.",
        "",
        "| slide | spots | image, um per px | ceiling, ms CPU a spot | job, ms | share of the ceiling's rate |",
        "|---" * 6 + "|",
    ]
    for source, folder, name in (
        ("legacy_st", "her2st", "C2"),
        ("space_ranger", "crc16", "crc16"),
        ("anndata", "dlpfc_151673", "151673"),
    ):
        entry = SourceEntry(source, data / folder, slides=(name,))
        plan = make_plan(BuildConfig((entry,), slide_as_patient=True))
        slide, taken = plan.slides[0].job.read(), []
        for _ in range(REPEATS):
            floor = ceiling(slide, CROPS)
            with tempfile.TemporaryDirectory() as out:
                started = time.process_time()
                build_slide(Path(out), plan, plan.slides[0])
                taken.append((floor, time.process_time() - started))
        floor, whole = (min(column) for column in zip(*taken, strict=True))
        per_spot = 1000 / len(slide)
        lines.append(
            f"| {name} | {len(slide):,} | {slide.um_per_px / slide.image.scale:.2f} | {floor * per_spot:.2f} | "
            f"{whole * per_spot:.2f} | {floor / whole:.2f} |"
        )
    return lines


def measure(what: str, case: str, data: Path, work: Path) -> dict[str, float]:
    """In a process of its own: the seconds of ceiling and build, or the peak memory of a build."""
    warm = work / "warm.jpeg"
    synthetic.write_jpeg(warm, synthetic.stain(1, 1024))
    build(synthetic.slide("warm", 9, warm, 100.0, seed=1), work)  # imports what is imported on use
    if what == "memory":
        before = read_memory("VmHWM")
        slide = make_slide(case, data, work)
        seconds = build(slide, work)
        peak = read_memory("VmHWM") - before
        with open_image(slide.name, slide.image) as pixels:
            size = pixels.width, pixels.height
        return {"peak": peak, "width": size[0], "height": size[1], "spots": len(slide), "seconds": seconds}
    slide = make_slide(case, data, work)
    taken = [(ceiling(slide, CROPS), build(slide, work)) for _ in range(REPEATS)]
    return {"ceiling": min(floor for floor, _ in taken), "build": min(whole for _, whole in taken)}


def in_child(what: str, case: str, data: Path, work: Path) -> dict[str, float]:
    command = [
        sys.executable,
        "-m",
        "benchmarks.speed.build_speed",
        "--child",
        what,
        "--case",
        case,
        "--data",
        str(data),
        "--work",
        str(work),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{case} failed:\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def table(results: dict[str, dict[str, float]]) -> list[str]:
    lines = [
        "| slide | spots | image, px | ceiling, ms CPU a spot | build, ms | share of the ceiling's rate | "
        "peak memory, MiB | of the decoded image |",
        "|---" * 8 + "|",
    ]
    for case, found in results.items():
        spots, decoded = found["spots"], found["width"] * found["height"] * 3
        per_spot = 1000 / spots
        timed = "ceiling" in found
        cells = [
            TITLES[case],
            f"{spots:,}",
            f"{found['width']:,} x {found['height']:,}",
            f"{found['ceiling'] * per_spot:.2f}" if timed else "-",
            f"{found.get('build', found['seconds']) * per_spot:.2f}",
            f"{found['ceiling'] / found['build']:.2f}" if timed else "-",
            f"{found['peak'] / 2**20:,.0f}",
            f"{found['peak'] / decoded:.2f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of real sections")
    parser.add_argument("--work", type=Path, default=Path("runs/build_speed"), help="the synthetic images' folder")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/build_speed"))
    parser.add_argument("--case", choices=CASES, help="this one alone")
    parser.add_argument("--child", choices=("time", "memory"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    if args.child:
        print(json.dumps(measure(args.child, args.case, args.data, args.work)))
        return
    results: dict[str, dict[str, float]] = {}
    for case in (args.case,) if args.case else CASES:
        if case != "her2st":
            make_slide(case, args.data, args.work)  # writes the image outside the measured process
        results[case] = in_child("memory", case, args.data, args.work)
        if case != "gigapixel":  # 11 GB decoded: there is no ceiling to measure
            results[case] |= in_child("time", case, args.data, args.work)
        print("\n".join(table({case: results[case]})), flush=True)
    if args.case:
        return
    shutil.rmtree(args.work)
    lines = [
        *table(results),
        "",
        *real_jobs(args.data),
        "",
        describe_machine("numpy", "pillow", "simplejpeg", "tifffile", "imagecodecs", "anndata"),
    ]
    write_results(args.out, lines, [{"case": case, **found} for case, found in results.items()])


if __name__ == "__main__":
    main()
