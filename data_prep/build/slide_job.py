"""One slide, from its files to its shard: read, curate, check its geometry, write. Runs in any process."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from data_prep.build.duplicates import make_sketch
from data_prep.build.plan import Plan, PlannedSlide
from data_prep.images import Pixels, make_thumbnail, open_image
from data_prep.shards.crops import check_spots_on_image, locate_corner
from data_prep.shards.write import write_slide
from data_prep.slide.curation import Curation, SetAside, judge_slide, keep_measured_spots, keep_spots
from data_prep.slide.genes import GeneNames
from data_prep.slide.geometry import check_grid, check_orientation, check_scale
from data_prep.slide.patients import find_unit
from data_prep.slide.quality import ImageQuality, find_tissue, measure_share, measure_sharpness
from data_prep.slide.slide import Slide, SlideError
from data_prep.slide.validation import validate
from stalign_pl.shard_format import MAX_SIDE_PX, SlideRecord

LOOKED_AT = 64
"""Niche crops whose sharpness is measured; evenly spread over the spots."""


def build_slide(out: Path, plan: Plan, planned: PlannedSlide) -> tuple[SlideRecord, np.ndarray]:
    """Read one slide and write its shard; returns the record and the sketch of its counts.

    Raises:
        SlideError: the slide cannot be used.
        SetAside: it can, and a rule of the curation leaves it out.
    """
    slide = curate_spots(set_patient(planned.facts.apply(planned.job.read()), plan, planned), plan.curation)
    panel = plan.panels[planned.panel]
    with open_image(slide.name, slide.image) as pixels:
        picture = make_thumbnail(pixels)
        slide, quality = curate_by_image(slide, pixels, picture, plan.curation)
        record = write_slide(
            out, planned.number, slide, pixels, picture, quality, plan.axis, panel, plan.settings, planned.crops
        )
    genes = plan.axis.columns(GeneNames(tuple(slide.gene_ids), tuple(slide.gene_symbols)))
    return record, make_sketch(slide.barcodes, slide.counts, genes)


def set_patient(slide: Slide, plan: Plan, planned: PlannedSlide) -> Slide:
    """Set the slide's patient, or what stands for it."""
    patient, patient_from = find_unit(
        slide.name, slide.patient, planned.patient_from or "source", slide.study, plan.slide_as_patient
    )
    return replace(slide, patient=patient, patient_from=patient_from)


def curate_spots(slide: Slide, rules: Curation) -> Slide:
    """Curate a slide by all rules that need no image; returns it with the spots that stay.

    Raises:
        SlideError, SetAside: see `build_slide`.
    """
    validate(slide)
    slide = keep_measured_spots(slide, rules)
    judge_slide(slide, rules)
    validate(slide)  # a slide may have lost all but one of its spots
    if rules.scale_tolerance is not None:
        check_grid(slide)  # first: positions that fit no grid have no pitch that a scale could be derived from
        check_scale(slide, rules.scale_tolerance)
    return slide


def curate_by_image(slide: Slide, pixels: Pixels, picture: np.ndarray, rules: Curation) -> tuple[Slide, ImageQuality]:
    """Curate a slide by its image; returns it with the spots that stay, and the image's quality.

    Args:
        picture: the image's thumbnail, uint8 [h, w, 3].

    Raises:
        SlideError: spots lie off the image, or it is blank.
        SetAside: another reading of the positions fits the tissue, the image is blurred, or too few spots are left.
    """
    check_spots_on_image(slide, pixels.width, pixels.height)
    if (picture == picture[0, 0]).all():
        where = f"{slide.image.path} {slide.image.member}".strip()
        raise SlideError(slide.name, f"{where} is of one colour, {picture[0, 0].tolist()}, and shows nothing")
    mask = find_tissue(picture)
    per_px = mask.shape[1] / pixels.width * slide.image.scale
    if rules.orientation:
        check_orientation(slide, mask, per_px)
    tissue = measure_share(mask, slide.xy * per_px, slide.spot_um / slide.um_per_px / 2 * per_px)
    if rules.min_spot_tissue:
        kept = tissue >= rules.min_spot_tissue
        slide = keep_spots(slide, kept, f"less than {rules.min_spot_tissue:g} of the spot is tissue")
        tissue = tissue[kept]
        judge_slide(slide, rules)
        validate(slide)
    quality = ImageQuality(
        round(float(tissue.mean()), 4), round(measure_sharpness(list(cut_patches(slide, pixels))), 4)
    )
    if quality.sharpness < rules.min_sharpness:
        what = f"its image has sharpness {quality.sharpness:.3f}; at least {rules.min_sharpness:g} is wanted"
        raise SetAside(slide.name, "min_sharpness", what)
    return slide, quality


def cut_patches(slide: Slide, pixels: Pixels) -> Iterator[np.ndarray]:
    """Cut native pixels around some of the spots, at most MAX_SIDE_PX a side and a pitch and a half wide."""
    side = max(3, min(MAX_SIDE_PX, round(1.5 * slide.pitch_px * slide.image.scale)))
    some = np.unique(np.linspace(0, len(slide) - 1, LOOKED_AT).astype(int))
    low = locate_corner(slide.xy[some] * slide.image.scale, side)
    for x, y in low[np.lexsort((low[:, 0], low[:, 1]))].tolist():  # from top to bottom: tiles are decoded once
        x0, y0, x1, y1 = max(x, 0), max(y, 0), min(x + side, pixels.width), min(y + side, pixels.height)
        if min(x1 - x0, y1 - y0) >= 3:
            yield pixels.region(x0, y0, x1, y1)
