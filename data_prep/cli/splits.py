"""Divide slides into train, val and test by patient, and write one split file (JSON) that `data.split` takes.

The slides are those of a shard set, or of a CSV with the columns slide, patient, patient_from, study, spots (and
tissue, duplicate_of), such as the slides.csv of a plan. Slides of one patient, of one donor that the literature names,
or of one section under two names stay together; with --unit study those of one study, too.

schemes:
  patients               at random by patient, within tissues where they have enough patients. The donors of the twelve
                         DLPFC sections (151507 to 151676) are in the test part, and count in its share.
  leave_one_patient_out  a fold a patient, named after it; the next patient by name validates (--val 0: nobody)
  paper                  ST-Align's own: six of the twelve DLPFC sections held out by slide. Not disjoint by patient,
                         which every table made from it says.
  file                   yours: a CSV with the columns slide (or patient), part (train, val, test, none) and, for
                         several folds, fold; or a split file made from other slides

examples:
  python -m data_prep splits shards/hest --out splits/hest.json --val 0.1 --test 0.2 --seed 0
  python -m data_prep splits plan/slides.csv --out splits/by_study.json --unit study --by patients
  python -m data_prep splits shards/dlpfc --scheme leave_one_patient_out --out splits/dlpfc.json
  python -m data_prep splits shards/stimage --scheme paper --out splits/paper.json
  python -m data_prep splits shards/mine --scheme file --mapping parts.csv --out splits/mine.json
then:
  python -m stalign_pl fit --config FILE --data.split splits/dlpfc.json --data.fold Br5292
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import get_args

from data_prep.splits.inputs import add_duplicates, read_slides, read_split_mapping
from data_prep.splits.schemes import DEFAULT_SHARES, SCHEMES, By, SplitRequest, make_split
from data_prep.splits.units import SplitSlide, UnitName
from stalign_pl.shard_format.split import Split

TISSUES_SHOWN = 6


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("slides", type=Path, metavar="SHARDS|CSV", help="a shard set, or a CSV of planned slides")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the split file to write")
    parser.add_argument("--scheme", choices=tuple(SCHEMES), default="patients", help="default: patients")
    parser.add_argument("--seed", type=int, default=0, help="of the random order of patients (default 0)")
    for part, share in (("val", DEFAULT_SHARES["val"]), ("test", DEFAULT_SHARES["test"])):
        parser.add_argument(
            f"--{part}", type=float, metavar="SHARE", help=f"share of the {part} part, 0 to 1 (patients: {share})"
        )
    parser.add_argument("--by", choices=get_args(By), default="spots", help="what the shares count (default: spots)")
    parser.add_argument(
        "--unit", choices=get_args(UnitName), default="patient", help="what is never torn apart (default: patient)"
    )
    parser.add_argument(
        "--hold-out-dlpfc",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="patients: the DLPFC donors are test patients",
    )
    parser.add_argument("--mapping", type=Path, metavar="FILE", help="file: CSV or split file of each slide's part")
    parser.add_argument(
        "--duplicates", type=Path, metavar="CSV", help="columns slide, duplicate_of: sections under two names"
    )


def run(args: argparse.Namespace) -> int:
    """Make the split, write it, print what is in each part."""
    slides = read_slides(args.slides)
    if args.duplicates is not None:
        slides = add_duplicates(slides, args.duplicates)
    names = ("scheme", "seed", "val", "test", "by", "unit", "hold_out_dlpfc")
    mapping = None if args.mapping is None else read_split_mapping(args.mapping, slides)
    split = make_split(slides, SplitRequest(**{name: getattr(args, name) for name in names}, mapping=mapping))
    split.write(args.out)
    for line in format_table(split, slides):
        print(line)
    for mark in split.marks:
        print(f"note: {mark}")
    count = f"{len(split.folds)} fold{'s' if len(split.folds) > 1 else ''}"
    print(f"{args.out}: scheme {split.scheme}, {count}, {split.slides} slides, hash {split.sha256()[:12]}")
    return 0


def format_table(split: Split, slides: Sequence[SplitSlide]) -> Iterator[str]:
    """Yield lines of a table: slides, spots, patients and tissues of every part of every fold."""
    by_name = {slide.name: slide for slide in slides}
    total = sum(slide.spots for slide in slides) or 1
    wide = max(len("fold"), *(len(name) for name in split.folds))
    yield f"{'fold':<{wide}}  {'part':<5}  {'slides':>6}  {'spots':>9}  {'share':>5}  {'patients':>8}  tissues (slides)"
    for name, fold in split.folds.items():
        for part, of in fold.parts.items():
            chosen = [by_name[slide] for slide in of.slides]
            spots = sum(slide.spots for slide in chosen)
            yield (
                f"{name:<{wide}}  {part:<5}  {len(chosen):>6}  {spots:>9,}  {spots / total:>5.3f}  "
                f"{len(of.patients):>8}  {_count_tissues(chosen)}"
            )


def _count_tissues(slides: Sequence[SplitSlide]) -> str:
    counts = Counter(slide.tissue.strip().lower() or "unknown" for slide in slides)
    order = sorted(counts, key=lambda tissue: (-counts[tissue], tissue))
    more = f", {len(order) - TISSUES_SHOWN} more" if len(order) > TISSUES_SHOWN else ""
    return ", ".join(f"{tissue} {counts[tissue]}" for tissue in order[:TISSUES_SHOWN]) + more
