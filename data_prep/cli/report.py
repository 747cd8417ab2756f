"""Report a shard set on one HTML page, which opens offline: slides, pictures, genes, exclusions, splits, licences.

The page shows every slide with its spots drawn at their true size on its image, so that one sees whether they sit on
tissue. A set that is still being built is reported as far as it is. The same set gives the same page, byte for byte.
A slide whose files cannot be read is on the page with the reason, and the exit status is 1.

examples:
  python -m data_prep report shards/real                          writes shards/real/report.html
  python -m data_prep report shards/real --out pages/real.html
  python -m data_prep report shards/real --split splits/a.json splits/b.json
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from data_prep.check.check import check_set
from data_prep.console import format_bytes
from data_prep.report.page import make_report, write_page

PAGE = "report.html"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("shards", type=Path, metavar="SHARDS", help="folder of the set")
    parser.add_argument(
        "--split", type=Path, nargs="+", action="extend", default=[], metavar="FILE", help="split files to show"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help=f"the page (default: SHARDS/{PAGE})")


def run(args: argparse.Namespace) -> int:
    """Write the page; 0, or 1 where a slide's files cannot be read."""
    report = make_report(args.shards, args.split, progress=sys.stderr.isatty())
    out = args.out or args.shards / PAGE
    write_page(report, out)
    excluded = sum(len(group.exclusions) for group in report.excluded)
    spots = sum(row.record.spots for row in report.rows)
    print(
        f"{out}: {len(report.rows)} slides, {spots:,} spots, {excluded} excluded slides, "
        f"{len(report.splits)} splits, {format_bytes(out.stat().st_size)}"
    )
    for notice in (*report.notices, *report.marks):
        print(f"note: {notice}")
    problems = [str(problem) for problem in report.problems]
    if (args.shards / "manifest.json").is_file():
        problems += [str(problem) for problem in check_set(args.shards, quick=True)]
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    return 1 if problems else 0
