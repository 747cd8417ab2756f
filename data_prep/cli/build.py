"""Build a shard set from slides: what a source finds in a folder, or what a YAML config lists.

Each slide is one independent job. A build that was stopped goes on where it was when the same command is given again.
A slide that cannot be read is named with the reason, the others are built, and the exit status is 1. A slide that a
rule of the config's `curation:` leaves out is listed in exclusions.json, and so is one whose scale, grid or orientation
contradicts itself, or whose counts are those of another slide. SHARDS/state/ says what became of every slide.

examples:
  python -m data_prep build --source space_ranger --input cohorts/demo-0 --out shards/demo-0
  python -m data_prep build --source legacy_st --input her2st --slides B4,C2 --out shards/breast --workers 2
  python -m data_prep build --config configs/data/real.yaml --out shards/real
  python -m data_prep build --config configs/data/real.yaml --out shards/real --task 3 --tasks 16

The last one builds every 16th slide and writes no manifest, so that 16 such tasks may run at once into one folder; the
same command without --task and --tasks then finds their slides, builds what is missing and writes the manifest.

A config's sections: settings (seed, part_spots, rings or radii_um or nearest, spot_scale, niche_pitches,
slide_as_patient), curation (species, technology, exclude, min_spots, min_spot_counts, min_spot_genes, min_spot_tissue,
min_sharpness, max_um_per_px, scale_tolerance, orientation, duplicates) and sources.

A folder may hold a sheet, slides.csv, with the columns slide and any of patient, study, species, tissue, technology,
licence, labels (a CSV of barcode plus label columns, relative to the sheet). It overrides what the files say.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path

from data_prep.build.build import EXCLUSIONS, BuildReport, Share, build
from data_prep.build.config import BuildConfig, SourceEntry, read_config
from data_prep.shards.settings import BuildSettings
from data_prep.slide.curation import Exclusion
from data_prep.sources import SOURCES
from stalign_pl.errors import ConfigError

SHOWN = 20
"""Exclusions by one rule that are printed one by one."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    defaults = BuildSettings()
    what = parser.add_argument_group(
        "what to build (either --config, or --source with --input, both as often as needed)"
    )
    what.add_argument("--config", type=Path, metavar="FILE", help="a YAML with settings: and sources:")
    what.add_argument("--source", action="append", default=[], metavar="NAME", help=f"one of {', '.join(SOURCES)}")
    what.add_argument(
        "--input", action="append", default=[], type=Path, metavar="DIR", help="the source's folder or file"
    )
    what.add_argument(
        "--sheet", type=Path, metavar="FILE", help="a slides.csv elsewhere than in the (single) input folder"
    )
    what.add_argument("--slides", type=_split_names, default=(), metavar="A,B", help="only these slides")
    what.add_argument(
        "--slide-as-patient", action="store_true", help="a slide whose patient nobody names is a patient of its own"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="SHARDS", help="folder of the set")
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, metavar="N", help="processes (default: one a core)"
    )
    parser.add_argument("--task", type=int, metavar="I", help="build slides I, I + N, ... only (with --tasks N)")
    parser.add_argument("--tasks", type=int, metavar="N", help="number of tasks that build this set together")
    settings = parser.add_argument_group("settings (above the config's)")
    settings.add_argument("--seed", type=int, help=f"of the samples' order in the tars (default {defaults.seed})")
    settings.add_argument(
        "--spot-scale",
        type=float,
        metavar="X",
        help=f"side of the spot crop in spot diameters (default {defaults.spot_scale})",
    )
    settings.add_argument(
        "--niche-pitches",
        type=float,
        metavar="X",
        help=f"side of the niche crop in distances of neighbouring spots (default {defaults.niche_pitches})",
    )
    settings.add_argument(
        "--rings", type=int, metavar="N", help=f"rings of neighbours stored (default {defaults.rings})"
    )
    settings.add_argument("--part-spots", type=int, metavar="N", help=f"spots a tar (default {defaults.part_spots})")


def run(args: argparse.Namespace) -> int:
    """Build; 0 where every slide (of the share, if there is one) is in the set, 1 where one is not."""
    share = _parse_share(args)
    report = build(_make_config(args), args.out, workers=args.workers, progress=sys.stderr.isatty(), share=share)
    _print(report, args.out)
    if share is not None:
        print(f"task {share.task} of {share.tasks}: no manifest yet; the command without --task writes it")
        return 1 if report.failed else 0
    return 1 if report.failed or not report.manifest.slides else 0


def _parse_share(args: argparse.Namespace) -> Share | None:
    if (args.task is None) != (args.tasks is None):
        raise ConfigError("--task and --tasks go together: --task I --tasks N builds slides I, I + N, ...")
    return None if args.task is None else Share(args.task, args.tasks)


def _make_config(args: argparse.Namespace) -> BuildConfig:
    if args.config is not None:
        if args.source or args.input or args.sheet:
            raise ConfigError("give either --config or --source with --input (and --sheet), not both")
        config = read_config(args.config)
    else:
        if not args.source or len(args.source) != len(args.input):
            raise ConfigError(
                f"every --source needs its --input: got {len(args.source)} and {len(args.input)} (or give --config)"
            )
        if args.sheet is not None and len(args.source) > 1:
            raise ConfigError("--sheet goes with a single --source; with several, name the sheets in a --config")
        config = BuildConfig(
            tuple(
                SourceEntry(source, folder, sheet=args.sheet)
                for source, folder in zip(args.source, args.input, strict=True)
            )
        )
    names = ("seed", "spot_scale", "niche_pitches", "rings", "part_spots")
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    return replace(
        config,
        settings=replace(config.settings, **given),
        slide_as_patient=args.slide_as_patient or config.slide_as_patient,
        only=args.slides,
    )


def _split_names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _print(report: BuildReport, out: Path) -> None:
    slides = report.manifest.slides
    spots, patients = sum(slide.spots for slide in slides), len({slide.patient for slide in slides})
    print(
        f"{out}: {len(slides)} slides ({len(report.reused)} were there), {spots:,} spots, {patients} patients, "
        f"{report.manifest.genes:,} genes"
    )
    _print_exclusions(report.exclusions)
    for name, reason in report.failed.items():
        print(f"error: slide {name!r}: {reason}", file=sys.stderr)
    if report.failed:
        print(f"{len(report.failed)} slides could not be built; mend them and give the command again", file=sys.stderr)


def _print_exclusions(exclusions: tuple[Exclusion, ...]) -> None:
    for rule in sorted({exclusion.rule for exclusion in exclusions}):
        of_rule = [exclusion for exclusion in exclusions if exclusion.rule == rule]
        for exclusion in of_rule[:SHOWN]:
            print(f"left out: {exclusion.slide}: {exclusion.reason} [{rule}]")
        if len(of_rule) > SHOWN:
            print(f"left out: {len(of_rule) - SHOWN} more [{rule}]; {EXCLUSIONS} lists all")
