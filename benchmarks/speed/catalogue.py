"""How long a corpus's catalogue takes: plan, split and verify 531 slides and 1.3 M spots.

    python -m benchmarks.speed.catalogue    (under a minute; --catalogue FILE for another place)

Planned is the real catalogue of STimage-1K4M by configs/data/stimage_human_visium.yaml. One slide of 2,452 spots (the
corpus's mean) is built; 531 links to its files stand for the corpus in `check --quick`, which looks at every record,
size, panel and index. `check` without --quick reads every sample's headers as well: its cost a spot is printed beside.
Goal: under 10 s for the three.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.machine import describe_machine, write_results
from benchmarks.speed import synthetic_slides as synthetic
from benchmarks.speed.linked_slides import link
from data_prep.check.check import check_set
from data_prep.cli.main import main as data_prep
from data_prep.images import make_thumbnail, open_image
from data_prep.shards.settings import BuildSettings, CropSettings
from data_prep.shards.write import write_slide
from data_prep.slide.genes import GeneNames, make_gene_axis
from data_prep.slide.quality import ImageQuality
from stalign_pl.shard_format import Manifest, SlideRecord

SLIDES, SPOTS, PITCH_PX = 531, 2452, 12.0
CONFIG = Path(__file__).resolve().parents[2] / "configs/data/stimage_human_visium.yaml"


def build_one(folder: Path) -> tuple[SlideRecord, int, str]:
    """One slide in the folder; its record, the number of genes and the gene table's hash."""
    image = folder / "image.jpeg"
    width, height = synthetic.image_size(SPOTS, PITCH_PX)
    synthetic.write_jpeg(image, synthetic.repeated(synthetic.stain(0, 512), width, height))
    slide = synthetic.slide("one", SPOTS, image, PITCH_PX, seed=0)
    axis = make_gene_axis([GeneNames(tuple(slide.gene_ids), tuple(slide.gene_symbols))])
    axis.table.write(folder / "genes.tsv")
    panel = np.arange(len(axis.table), dtype=np.int32)
    with open_image(slide.name, slide.image) as pixels:
        picture, quality = make_thumbnail(pixels), ImageQuality(1.0, 1.0)
        crops = CropSettings(1.0, 3.0)
        record = write_slide(folder, 0, slide, pixels, picture, quality, axis, panel, BuildSettings(), crops)
    return record, len(axis.table), axis.table.digest()


def timed(work: Callable[[], object]) -> float:
    started = time.monotonic()
    work()
    return time.monotonic() - started


def no_problem(folder: Path, quick: bool) -> None:
    problems = list(check_set(folder, quick=quick))
    if problems:
        raise SystemExit(f"{len(problems)} problems, the first: {problems[0]}")


def measure(catalogue: Path, work: Path) -> dict[str, float]:
    """Seconds of each step, by the wall."""
    table, split = work / "slides.csv", work / "split.json"
    plan = ["plan", "--config", str(CONFIG), "--catalogue", str(catalogue), "--out", str(table)]
    found = {
        "plan": timed(lambda: data_prep(plan)),
        "split": timed(lambda: data_prep(["splits", str(table), "--out", str(split)])),
    }
    one, corpus = work / "one", work / "corpus"
    for folder in (one, corpus):
        folder.mkdir()
    record, genes, digest = build_one(one)
    Manifest(digest, genes, {}, (record,)).write(one)
    build_one(corpus)
    Manifest(digest, genes, {}, tuple(link(corpus, record, number) for number in range(SLIDES))).write(corpus)
    found["verify"] = timed(lambda: no_problem(corpus, quick=True))
    found["headers_a_spot"] = timed(lambda: no_problem(one, quick=False)) / SPOTS
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path("../shared/data/stimage1k4m/meta_all_gene02122025.csv")
    parser.add_argument("--catalogue", type=Path, default=default, help="of STimage-1K4M, February 2025")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/catalogue"))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        found = measure(args.catalogue, Path(work))
    total = found["plan"] + found["split"] + found["verify"]
    lines = [
        f"{SLIDES} slides, {SLIDES * SPOTS:,} spots in the linked set",
        "",
        "| step | seconds |",
        "|---|---|",
        *(f"| {step} | {found[step]:.2f} |" for step in ("plan", "split", "verify")),
        f"| the three (goal: below 10) | {total:.2f} |",
        "",
        f"`check` with every header: {found['headers_a_spot'] * 1e6:.0f} us a spot, "
        f"{found['headers_a_spot'] * SLIDES * SPOTS:.0f} s for the corpus in one process.",
        "",
        describe_machine("numpy"),
    ]
    write_results(args.out, lines, found)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
