"""Verify a shard set and list every problem: which file, which spot. Exit status 1 where there is one.

examples:
  python -m data_prep check shards/demo-0            sizes, arrays, tar headers, neighbours
  python -m data_prep check shards/demo-0 --quick    sizes and indices alone: seconds for a corpus
  python -m data_prep check shards/demo-0 --deep     also all checksums, images and counts, read through WebDataset
"""

from __future__ import annotations

import argparse
from pathlib import Path

from data_prep.check.check import check_set
from stalign_pl.shard_format import Manifest

SHOWN = 200
"""Problems printed in full; beyond these only their number, since one cut tar can lose thousands of spots."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("shards", type=Path, metavar="SHARDS", help="folder of the set")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--quick", action="store_true", help="only records, sizes, panels and indices")
    how.add_argument("--deep", action="store_true", help="read every byte")


def run(args: argparse.Namespace) -> int:
    """Check; 0 where nothing is wrong, else 1."""
    problems = 0
    for problem in check_set(args.shards, args.deep, args.quick):
        problems += 1
        if problems <= SHOWN:
            print(problem)
    if problems:
        hidden = f" ({problems - SHOWN} not shown)" if problems > SHOWN else ""
        print(f"{args.shards}: {problems} problems{hidden}. Remove the slide's .json and build again to mend a slide")
        return 1
    slides = Manifest.read(args.shards).slides
    print(f"{args.shards}: {len(slides)} slides, {sum(slide.spots for slide in slides):,} spots, no problem")
    return 0
