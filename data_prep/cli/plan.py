"""Say which slides a config would build, which it leaves out and why, before anything is downloaded or read.

Goes by the sources' catalogues (STimage-1K4M, HEST-1k) and sheets; sources without one are looked for on disk. Nothing
is written but the table, where --out asks for it: one line a slide, for `download --plan` and `splits`.

examples:
  python -m data_prep plan --config configs/data/stimage_human_visium.yaml --catalogue meta_all_gene02122025.csv
  python -m data_prep plan --config configs/data/real.yaml --files --out slides.csv
"""

from __future__ import annotations

import argparse
import csv
from collections import Counter
from dataclasses import replace
from pathlib import Path

from data_prep.build.config import BuildConfig, read_config
from data_prep.build.survey import Candidate, list_candidates, make_plan_row
from stalign_pl.errors import ConfigError
from stalign_pl.files import replace_file

SHOWN = 20
"""Slides left out by one rule that are named on the screen; the table has all."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="a build's YAML")
    parser.add_argument(
        "--catalogue", type=Path, metavar="FILE", help="the catalogue, where it does not lie in the source's input"
    )
    parser.add_argument("--files", action="store_true", help="also leave out slides whose files are not there")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the table of all slides here (CSV)")


def run(args: argparse.Namespace) -> int:
    """Print the plan; 0 where some slide stays, 1 where none does."""
    config = set_catalogue(read_config(args.config), args.catalogue)
    candidates = list_candidates(config, files=args.files)
    rows = [make_plan_row(candidate, config.sources[candidate.entry].source, config) for candidate in candidates]
    if args.out is not None:
        _write(args.out, rows)
    _print(candidates, rows, config)
    return 0 if any(candidate.exclusion is None for candidate in candidates) else 1


def set_catalogue(config: BuildConfig, catalogue: Path | None) -> BuildConfig:
    """Give the config's single source a catalogue file.

    Raises:
        ConfigError: several sources, so that it is not known whose catalogue it is.
    """
    if catalogue is None:
        return config
    if len(config.sources) != 1:
        raise ConfigError("--catalogue goes with a single source; with several, name it as `catalogue:` of its source")
    (entry,) = config.sources
    return replace(config, sources=(replace(entry, options=replace(entry.options, catalogue=catalogue)),))


def _write(path: Path, rows: list[dict[str, object]]) -> None:
    if not rows:
        raise ConfigError("no source knows of any slide")
    with replace_file(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _print(candidates: tuple[Candidate, ...], rows: list[dict[str, object]], config: BuildConfig) -> None:
    kept = [candidate for candidate in candidates if candidate.exclusion is None]
    gone = [candidate.exclusion for candidate in candidates if candidate.exclusion is not None]
    print(f"{len(candidates):>6} slides known")
    for rule, slides in Counter(exclusion.rule for exclusion in gone).most_common():
        print(f"{-slides:>6} by {rule}")
        reasons = [exclusion for exclusion in gone if exclusion.rule == rule]
        for reason, times in Counter(exclusion.reason for exclusion in reasons).most_common(SHOWN):
            names = [exclusion.slide for exclusion in reasons if exclusion.reason == reason]
            shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
            print(f"{'':>8}{times:>5} {reason}: {shown}")
    spots = sum(candidate.row.spots or 0 for candidate in kept)
    unknown = sum(candidate.row.spots is None for candidate in kept)
    counted = f"{spots:,} spots" + (f" (and {unknown} slides whose spots nobody has counted)" if unknown else "")
    print(f"{len(kept):>6} slides stay, {counted}")
    tissues = Counter(candidate.row.tissue or "unknown" for candidate in kept)
    print("tissues: " + ", ".join(f"{tissue} {times}" for tissue, times in tissues.most_common()))
    for name in ("species", "technology"):
        silent = sum(not getattr(candidate.row, name) for candidate in kept)
        if silent and getattr(config.curation, name):
            print(
                f"note: nobody named the {name} of {silent} slides; the build asks the files, and leaves out what they "
                f"do not say"
            )
    units = {(row["patient"], row["patient_from"]) for row in rows if row["kept"] == "yes"}
    origin = Counter(
        who or "nobody (the build asks the files, and refuses a slide with neither patient nor study)"
        for _, who in units
    )
    print("units of a split: " + ", ".join(f"{times} named by {who}" for who, times in sorted(origin.items())))
