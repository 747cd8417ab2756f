"""Which slides and spots stay, and why the others go: a config states it, every exclusion names its rule and numbers.

Two looks: at what a catalogue says, before any file is opened (`judge_row`), and at the slide itself, once it is read
(`judge_slide`). A slide that a rule leaves out is no error; one that cannot be read is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from data_prep.slide.catalogue import CatalogueRow, translate_species, translate_technology
from data_prep.slide.slide import Slide, SlideError
from stalign_pl.errors import ConfigError

DUPLICATES = ("drop", "keep")

SCALE_TOLERANCE = 0.1
"""See Curation.scale_tolerance."""


class SetAside(SlideError):  # noqa: N818 - a verdict of the rules, no error of the data
    """A slide that can be read and is left out by a rule. `rule` names it, the message has the numbers."""

    def __init__(self, slide: str, rule: str, what: str) -> None:
        super().__init__(slide, what)
        self.rule = rule


@dataclass(frozen=True)
class Exclusion:
    """One line of the table of exclusions.

    Attributes:
        stage: "plan" (by catalogue or missing files), "build" (by the slide itself) or "duplicate".
        rule: the curation key, or "files" where something is missing.
    """

    slide: str
    stage: str
    rule: str
    reason: str


@dataclass(frozen=True)
class Curation:
    """The rules; a default leaves nothing out but contradictions and duplicates.

    Attributes:
        species: only these ("human", ...); empty: any.
        technology: only these ("Visium", "ST", ...); empty: any.
        exclude: slide -> reason.
        min_spots: slides with fewer spots go, by the catalogue and again by what is left.
        min_spot_counts: spots with fewer counts go.
        min_spot_genes: spots with fewer genes above zero go.
        min_spot_tissue: spots whose crop shows a smaller share of tissue (0 to 1) go.
        min_sharpness: slides below go; see quality.measure_sharpness.
        max_um_per_px: slides whose image is coarser go; None keeps thumbnails.
        scale_tolerance: largest share by which a claimed scale may differ from the lattice's; None does not look.
        orientation: set slides aside whose positions fit the image better when turned, swapped or scaled.
        duplicates: "drop" keeps one of several slides with the same counts, "keep" keeps all.
    """

    species: tuple[str, ...] = ()
    technology: tuple[str, ...] = ()
    exclude: Mapping[str, str] = field(default_factory=dict)
    min_spots: int = 1
    min_spot_counts: int = 0
    min_spot_genes: int = 0
    min_spot_tissue: float = 0.0
    min_sharpness: float = 0.0
    max_um_per_px: float | None = None
    scale_tolerance: float | None = SCALE_TOLERANCE
    orientation: bool = True
    duplicates: str = "drop"

    def __post_init__(self) -> None:
        for name in ("min_spots", "min_spot_counts", "min_spot_genes", "min_spot_tissue", "min_sharpness"):
            if getattr(self, name) < 0:
                raise ConfigError(f"curation: {name} is {getattr(self, name)}; 0 or more is wanted")
        if self.min_spot_tissue > 1:
            raise ConfigError(f"curation: min_spot_tissue is {self.min_spot_tissue}; a share from 0 to 1 is wanted")
        for name in ("max_um_per_px", "scale_tolerance"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ConfigError(f"curation: {name} is {value}; a number above 0, or null, is wanted")
        if self.duplicates not in DUPLICATES:
            raise ConfigError(f"curation: duplicates is {self.duplicates!r}; known: {', '.join(DUPLICATES)}")


def judge_row(row: CatalogueRow, rules: Curation) -> tuple[str, str] | None:
    """Judge a slide by its catalogue's row: (rule, reason) why it goes, or None.

    What the row does not state is judged later, by the slide itself.
    """
    if row.name in rules.exclude:
        return "exclude", rules.exclude[row.name]
    for name in ("species", "technology"):
        reason = _explain_unwanted(name, getattr(row, name), rules) if getattr(row, name) else None
        if reason:
            return name, reason
    if row.spots is not None and row.spots < rules.min_spots:
        return "min_spots", f"has {row.spots} spots by the catalogue; at least {rules.min_spots} are wanted"
    if row.um_per_px is not None and rules.max_um_per_px is not None and row.um_per_px > rules.max_um_per_px:
        return "max_um_per_px", _explain_coarse(row.um_per_px, rules.max_um_per_px)
    return None


def _explain_unwanted(name: str, found: str, rules: Curation) -> str | None:
    word = {"species": translate_species, "technology": translate_technology}[name]
    wanted = getattr(rules, name)
    if not wanted or word(found) in {word(text) for text in wanted}:
        return None
    said = f"{name} is {word(found)!r}" if found else f"{name} is not known (a sheet or the source's entry may say it)"
    return f"{said}; wanted: {', '.join(wanted)}"


def keep_spots(slide: Slide, kept: np.ndarray, rule: str) -> Slide:
    """Keep the spots of a mask; the slide's notes say how many went.

    Args:
        kept: bool [N].
        rule: why the others went, for the note.
    """
    if kept.all():
        return slide
    return replace(
        slide,
        barcodes=slide.barcodes[kept],
        xy=slide.xy[kept],
        counts=slide.counts[kept],
        grid=None if slide.grid is None else slide.grid[kept],
        labels={column: values[kept] for column, values in slide.labels.items()},
        notes=(*slide.notes, f"{int((~kept).sum())} of {len(kept)} spots left out: {rule}"),
    )


def keep_measured_spots(slide: Slide, rules: Curation) -> Slide:
    """Leave out spots with too few counts or genes."""
    if rules.min_spot_counts:
        total = np.asarray(slide.counts.sum(axis=1)).ravel()
        slide = keep_spots(slide, total >= rules.min_spot_counts, f"fewer than {rules.min_spot_counts} counts")
    if rules.min_spot_genes:
        genes = np.diff(slide.counts.indptr)
        slide = keep_spots(slide, genes >= rules.min_spot_genes, f"fewer than {rules.min_spot_genes} genes")
    return slide


def judge_slide(slide: Slide, rules: Curation) -> None:
    """Judge what is left of a slide by what it is, its size and the grain of its image.

    Raises:
        SetAside: another (or an unknown) species or technology where a config asks for some, too few spots, or an image
            coarser than asked for.
    """
    for name in ("species", "technology"):
        reason = _explain_unwanted(name, getattr(slide, name), rules)
        if reason:
            raise SetAside(slide.name, name, reason)
    if len(slide) < rules.min_spots:
        raise SetAside(slide.name, "min_spots", f"{len(slide)} spots are left; at least {rules.min_spots} are wanted")
    grain = slide.um_per_px / slide.image.scale
    if rules.max_um_per_px is not None and grain > rules.max_um_per_px:
        raise SetAside(slide.name, "max_um_per_px", _explain_coarse(grain, rules.max_um_per_px))


def _explain_coarse(found: float, wanted: float) -> str:
    return f"its image has {found:.2f} um per pixel; at most {wanted:g} are wanted"
