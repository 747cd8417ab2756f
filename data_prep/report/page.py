"""The page: everything a set can tell, laid out by page.html.j2 into one file that opens offline."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.console import format_bytes, show_bar
from data_prep.report.build_log import ExclusionGroup, group_exclusions, read_exclusions, read_states
from data_prep.report.gene_coverage import GeneCoverage, count_gene_coverage
from data_prep.report.histograms import Histogram, make_histogram
from data_prep.report.shard_set import ReportedSet, read_set
from data_prep.report.slide_rows import SlideRow, read_slide_row
from data_prep.report.split_tables import SplitTable, read_split_table
from data_prep.report.thumbnail import LARGE, SMALL
from data_prep.report.warnings import LicenceRow, count_licences, warn_of_patients
from stalign_pl import __version__
from stalign_pl.files import replace_file
from stalign_pl.shard_format import FORMAT_VERSION

MANY_SLIDES = 60
"""Above this many slides the thumbnails are small, so that the page stays below some 25 MB."""


@dataclass(frozen=True)
class Report:
    """All that the page shows. `notices`: what is wrong or unusual with the set as a whole, in sentences."""

    shard_set: ReportedSet
    rows: tuple[SlideRow, ...]
    notices: tuple[str, ...]
    marks: tuple[str, ...]
    histograms: tuple[Histogram, ...]
    genes: GeneCoverage
    excluded: tuple[ExclusionGroup, ...]
    licences: tuple[LicenceRow, ...]
    splits: tuple[SplitTable, ...]

    @property
    def problems(self) -> tuple[str, ...]:
        """Problems of slides and panels that cannot be read."""
        return tuple(item.problem for item in (*self.rows, *self.genes.panels) if item.problem)


def make_report(folder: Path, splits: Sequence[Path] = (), progress: bool = False) -> Report:
    """Read a set, finished or not, and put its report together.

    A slide whose files cannot be read is in the report with the reason.

    Args:
        splits: split files to show.
        progress: show a bar of slides on stderr.

    Raises:
        ShardError: the folder is no shard set, or a file that concerns all slides is damaged.
        ConfigError: a split file is missing or is none.
    """
    shard_set = read_set(folder)
    states = read_states(folder)
    split_tables = tuple(read_split_table(path, shard_set.slides) for path in splits)
    size = LARGE if len(shard_set.slides) <= MANY_SLIDES else SMALL
    rows = tuple(
        read_slide_row(folder, record, states.get(record.name), size)
        for record in show_bar(shard_set.slides, "report", progress, total=len(shard_set.slides))
    )
    names = {record.name for record in shard_set.slides}
    return Report(
        shard_set,
        rows,
        _write_notices(shard_set, rows),
        warn_of_patients(shard_set.slides),
        _draw_histograms(rows),
        count_gene_coverage(shard_set),
        group_exclusions(read_exclusions(folder), states.values(), names),
        count_licences(shard_set.slides),
        split_tables,
    )


def write_page(report: Report, path: Path) -> None:
    """Write the page, whole or not at all. The same set gives the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    html = render(report)
    with replace_file(path) as temporary:
        temporary.write_text(html, encoding="utf-8")


def render(report: Report) -> str:
    """Render the page as HTML. Names of slides and the like are free text, so everything is escaped."""
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"bytes": format_bytes, "number": _format_number, "whole": _format_whole}
    source = resources.files("data_prep.report").joinpath("page.html.j2").read_text(encoding="utf-8")
    return environment.from_string(source).render(
        report=report,
        set=report.shard_set,
        settings=_flatten_settings(report.shard_set.settings),
        version=__version__,
        format_version=FORMAT_VERSION,
    )


def _write_notices(shard_set: ReportedSet, rows: Sequence[SlideRow]) -> tuple[str, ...]:
    notices = []
    if not shard_set.finished:
        notices.append(
            f"This set has no manifest: it is still being built, or its tasks are done and the build that ends it is "
            f"not. {len(rows)} of {shard_set.planned} planned slides are there"
        )
    elif shard_set.planned is not None and len(rows) < shard_set.planned:
        notices.append(f"{shard_set.planned - len(rows)} of {shard_set.planned} planned slides are not in the set")
    disagree = sum(row.scale_disagrees for row in rows)
    if disagree:
        notices.append(f"In {disagree} slides a claim of the scale is off the spots' lattice by more than a tenth")
    damaged = sum(bool(row.problem) for row in rows)
    if damaged:
        notices.append(f"{damaged} slides have files that cannot be read; `python -m data_prep check` says more")
    return tuple(notices)


def _draw_histograms(rows: Sequence[SlideRow]) -> tuple[Histogram, ...]:
    counts = np.concatenate([row.spot_counts for row in rows]) if rows else np.empty(0)
    return (
        make_histogram("Spots a slide", [row.record.spots for row in rows], "slides"),
        make_histogram("Counts a spot", counts, "spots"),
        make_histogram("µm per pixel of the cropped image", [row.record.image_um_per_px for row in rows], "slides"),
    )


def _flatten_settings(settings: dict[str, Any]) -> list[tuple[str, str]]:
    """List settings as words; of a nested group (curation) as `group.name`, and only those that leave something out."""
    flat = []
    for key, value in settings.items():
        if isinstance(value, dict):
            flat += [(f"{key}.{name}", f"{item}") for name, item in value.items() if item not in (None, [], {}, 0)]
        else:
            flat.append((key, f"{value}"))
    return flat


def _format_number(value: float | None, digits: int = 3) -> str:
    """Format a few significant digits; a dash for None."""
    return "–" if value is None or not math.isfinite(value) else f"{value:.{digits}g}"


def _format_whole(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"
