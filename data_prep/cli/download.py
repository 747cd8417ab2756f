"""Fetch a public data set, or some of its slides, from the Hugging Face Hub: first its catalogue, then the slides.

Data sets: stimage1k4m (jiawennnn/STimage-1K4M, open) and hest (MahmoodLab/hest, gated: request access on its page, then
log in with `hf auth login` or set HF_TOKEN). What will be fetched, and how large it is, is shown before it starts. The
command may be given again at any time: files that are there are not fetched again, and a connection that breaks within
a file is taken up where it broke. (A run that is killed loses what it had of the few files that were on their way.)

examples:
  python -m data_prep download stimage1k4m --out data/stimage --catalogue-only
  python -m data_prep download stimage1k4m --out data/stimage --slides 'Human_Breast_*' GSE158730_GSM7770348
  python -m data_prep download stimage1k4m --out data/stimage --plan slides.csv
  python -m data_prep download hest --out data/hest --slides 'TENX*' --no-images --dry-run
  python -m data_prep download hest --out data/hest --slides '*' --endpoint https://hub.example.org

A typical course: fetch the catalogue; `python -m data_prep plan --config FILE --out slides.csv` says by it which slides
a build would use; download --plan slides.csv fetches these and no others.

The Hub may send large files by Xet; HF_HUB_DISABLE_XET=1 keeps to plain HTTP, which some proxies and mirrors need. The
token, if there is one, is sent to the endpoint, as huggingface_hub does.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from data_prep.console import format_bytes
from data_prep.download.datasets import DATASETS, PublicDataset
from data_prep.download.hub import (
    Listing,
    RemoteFile,
    count_unfinished_bytes,
    fetch,
    find_endpoint,
    is_here,
    list_repository,
    refuse_without_space,
)
from data_prep.download.selection import (
    RemoteSlide,
    find_catalogue_files,
    find_slides,
    match_names,
    read_kept_slides,
    select_kinds,
    suggest_names,
)
from stalign_pl.errors import ConfigError

SHOWN = 20
"""Slides that are named with their size before the download starts."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("dataset", choices=tuple(DATASETS), help="which data set")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to fill, the source's input")
    parser.add_argument(
        "--slides", nargs="+", action="extend", default=[], metavar="PATTERN", help="names; * and ? stand for any text"
    )
    parser.add_argument("--plan", type=Path, metavar="CSV", help="only slides that this table of `plan` keeps")
    parser.add_argument("--catalogue-only", action="store_true", help="only the files that tell of all slides")
    parser.add_argument(
        "--images", action=argparse.BooleanOptionalAction, default=True, help="the images too, by far the most bytes"
    )
    parser.add_argument("--dry-run", action="store_true", help="show what would be fetched, and fetch nothing")
    parser.add_argument("--endpoint", metavar="URL", help="of the Hub (default: HF_ENDPOINT, else huggingface.co)")


def run(args: argparse.Namespace) -> int:
    """Fetch; 0 where everything that was asked for is there."""
    if args.catalogue_only == bool(args.slides or args.plan):
        raise ConfigError(
            "say what to fetch: --slides PATTERN ..., --plan CSV (or both: what both have), or --catalogue-only alone; "
            "--slides '*' is all of it"
        )
    dataset = DATASETS[args.dataset]
    kept = None if args.plan is None else read_kept_slides(args.plan, dataset)
    listing = list_repository(dataset.repo, find_endpoint(args.endpoint))
    catalogue = find_catalogue_files(dataset, listing)
    slides = [] if args.catalogue_only else _select_slides(dataset, listing, args.slides, kept)
    groups = {"catalogue": catalogue} | {
        kind.name: tuple(slide.files[kind.name] for slide in slides if kind.name in slide.files)
        for kind in (select_kinds(dataset, args.images) if slides else ())
    }
    files = [file for group in groups.values() for file in group]
    to_fetch = sum(file.bytes for file in files if not is_here(args.out, file))
    _print(listing, slides, groups, args.out, to_fetch)
    if args.dry_run:
        return 0
    free = refuse_without_space(args.out, to_fetch)
    print(f"{format_bytes(free)} free in {args.out}", flush=True)
    progress = sys.stderr.isatty()
    fetch(listing, catalogue, args.out, progress)
    if slides:
        fetch(listing, files, args.out, progress)
    print(f"{args.out}: {len(files)} files of {len(slides)} slides and the catalogue are there")
    return 0


def _select_slides(
    dataset: PublicDataset, listing: Listing, patterns: Sequence[str], kept: tuple[str, ...] | None
) -> list[RemoteSlide]:
    """Select the slides to fetch; prints which kept ones the repository lacks."""
    known = find_slides(dataset, listing)
    names = set(match_names(patterns, known)) if patterns else set(known)
    if kept is not None:
        absent = [name for name in kept if name not in known]
        if absent:
            print(
                f"note: {len(absent)} of {len(kept)} kept slides of the plan are not in {dataset.repo}, such as "
                f"{absent[0]!r}; {suggest_names(absent[0], list(known))}"
            )
        names &= set(kept)
        if not names:
            raise ConfigError(f"none of the plan's {len(kept)} kept slides is in {dataset.repo} and matches --slides")
    return [known[name] for name in sorted(names)]


def _print(
    listing: Listing,
    slides: Sequence[RemoteSlide],
    groups: dict[str, tuple[RemoteFile, ...]],
    out: Path,
    to_fetch: int,
) -> None:
    print(f"{listing.repo} at {listing.commit[:12]} ({listing.endpoint}): {len(slides)} slides")
    for slide in slides[:SHOWN]:
        wanted = [slide.files[kind] for kind in groups if kind in slide.files]
        print(f"  {format_bytes(sum(file.bytes for file in wanted)):>10}  {slide.name}")
    if len(slides) > SHOWN:
        print(f"  ... and {len(slides) - SHOWN} more")
    for name, files in groups.items():
        print(f"{name:>12}: {len(files):>6,} files {format_bytes(sum(file.bytes for file in files)):>10}")
    total = sum(file.bytes for files in groups.values() for file in files)
    print(f"{'together':>12}: {sum(map(len, groups.values())):>6,} files {format_bytes(total):>10}")
    print(f"{'to fetch':>12}: {format_bytes(to_fetch)}, as {format_bytes(total - to_fetch)} are in {out}")
    lacking = [slide for slide in slides if slide.lacks]
    if lacking:
        print(
            f"note: {len(lacking)} slides are incomplete in the repository, such as {lacking[0].name}, which has no "
            f"{' and no '.join(lacking[0].lacks)}"
        )
    left = count_unfinished_bytes(out)
    if left:
        print(
            f"note: {format_bytes(left)} of half fetched files lie in {out / '.cache'}, of a run that was killed; "
            f"unless "
            f"another run is filling this folder, they (*.incomplete) can be removed"
        )
