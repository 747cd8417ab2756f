"""Scale and geometry: does everything that speaks of a slide's scale agree, and do the spots sit on the tissue?

The lattice is what is trusted: spots are printed 100 um (Visium) or 200 um (legacy ST) apart. What else speaks of the
scale (metadata, the spots' diameter) is compared with it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from data_prep.curation import SetAside
from data_prep.quality import share_at
from data_prep.slide import Slide

SPOT_DIAMETER = (1.0, 1.3)
"""A file's spot diameter over the true one. Space Ranger states a theoretical 65 um for spots of 55 (10x's pages), and
on HumanPilot 70 was measured; STimage-1K4M's radius is of either kind."""

GRID_RESIDUAL = 0.25
"""Positions may stray this far (median, in pitches) from where the grid puts them; legacy arrays jitter by .1."""

GRID_SKEW = 0.2
"""The grid's two steps may differ in length by this share; on a real legacy array (mouse olfactory bulb) it is .11."""

MISFIT = 0.1
"""Another orientation must put this much more of the spots' area on tissue to be believed."""

BELIEVED_FROM = 0.75
"""... and at least this share in all: two readings of noise differ, too."""

CONVINCED_ABOVE = 0.9
"""Where this share of the spots' area is on tissue as given, no other orientation is looked for."""

HIRES_PX, LOWRES_PX = (2000, 4000, 6000), (600,)
"""Longest sides of Space Ranger's tissue images (6.5 mm, 11 mm, HD; lowres)."""


def check_scale(slide: Slide, tolerance: float) -> None:
    """Compare the lattice's um per pixel with what else the files claim.

    Args:
        tolerance: largest share of disagreement.

    Raises:
        SetAside: a claim, or the spots' diameter, differs by more; the message has the numbers.
    """
    lattice = slide.um_per_px
    for who, claimed in slide.um_per_px_claims.items():
        if not abs(claimed / lattice - 1) <= tolerance:
            raise SetAside(
                slide.name,
                "scale",
                f"{who} says {claimed:.4g} um per pixel, the lattice {lattice:.4g} ({slide.pitch_um:g} um in "
                f"{slide.pitch_px:.1f} px): {_percent(claimed / lattice)}, more than {tolerance:.0%} apart",
            )
    if slide.spot_px is None:
        return
    low, high = (factor * slide.spot_um / slide.pitch_um for factor in SPOT_DIAMETER)
    share = slide.spot_px / slide.pitch_px
    if not low * (1 - tolerance) <= share <= high * (1 + tolerance):
        raise SetAside(
            slide.name,
            "scale",
            f"the spots' diameter is stated as {slide.spot_px:.1f} px, {share:.2f} of the {slide.pitch_px:.1f} px "
            f"between neighbours; {low:.2f} to {high:.2f} would be right ({slide.spot_um:g} um spots, "
            f"{slide.pitch_um:g} um apart). Are positions and diameter of one image?",
        )


def check_grid(slide: Slide) -> None:
    """Compare positions with the array that they were printed on: one turn, shift and scale should lead there.

    Raises:
        SetAside: positions that are scattered about the grid, or stretched along one axis.
    """
    if slide.grid is None or len(slide) < 6:
        return
    places = np.column_stack([slide.lattice_xy, np.ones(len(slide))])
    fit, _, rank, _ = np.linalg.lstsq(places, slide.xy, rcond=None)
    if rank < 3:
        return  # a single row of spots says nothing of a second axis
    steps = np.linalg.svd(fit[:2], compute_uv=False)
    stray = np.median(np.linalg.norm(places @ fit - slide.xy, axis=1)) / max(steps[0], 1e-9)
    if stray > GRID_RESIDUAL:
        raise SetAside(
            slide.name,
            "grid",
            f"positions stray {stray:.2f} pitches (median) from where array_row and array_col put them; at most "
            f"{GRID_RESIDUAL} are believed. Are positions and barcodes of one slide?",
        )
    if steps[0] > steps[1] * (1 + GRID_SKEW):
        raise SetAside(
            slide.name,
            "grid",
            f"the array is stretched: a pitch is {steps[1]:.1f} px one way and {steps[0]:.1f} px the other. Is one of "
            f"x and y on another scale?",
        )


def check_orientation(slide: Slide, mask: np.ndarray, mask_per_px: float) -> None:
    """Look whether the spots would sit on the tissue better with x and y swapped, mirrored, turned or scaled.

    Only a slide whose spots clearly miss the tissue, where another reading of the same numbers clearly hits it, is set
    aside: tissue that fills the image, or an unfiltered array, says nothing.

    Args:
        mask: bool [H, W], tissue on a thumbnail of the image.
        mask_per_px: mask pixels per full-resolution pixel.

    Raises:
        SetAside: names the reading that fits, with both shares.
    """
    radius = slide.spot_um / slide.um_per_px / 2 * mask_per_px
    given = float(share_at(mask, slide.xy * mask_per_px, radius).mean())
    if given > CONVINCED_ABOVE:
        return
    found = [
        (float(share_at(mask, xy * mask_per_px, radius * scale).mean()), name)
        for name, xy, scale in readings(slide, mask, mask_per_px)
    ]
    share, name = max(found)
    if share > given + MISFIT and share > BELIEVED_FROM:
        raise SetAside(
            slide.name,
            "orientation",
            f"{given:.0%} of the spots' area is on tissue as given, {share:.0%} with {name}. Mend the positions or the "
            f"image, or, if they are right, set `curation: orientation: false`",
        )


def readings(slide: Slide, mask: np.ndarray, mask_per_px: float) -> Iterator[tuple[str, np.ndarray, float]]:
    """Other readings of a slide's positions: (what was done, [N, 2] in full-resolution pixels, scale of the spots)."""
    width, height = mask.shape[1] / mask_per_px, mask.shape[0] / mask_per_px
    x, y = slide.xy[:, 0], slide.xy[:, 1]
    yield "x and y swapped", np.column_stack([y, x]), 1.0
    yield "the image mirrored left to right", np.column_stack([width - x, y]), 1.0
    yield "the image mirrored top to bottom", np.column_stack([x, height - y]), 1.0
    yield "the image turned by 180 degrees", np.column_stack([width - x, height - y]), 1.0
    yield "the image turned by 90 degrees", np.column_stack([width - y, x]), 1.0
    yield "the image turned by 270 degrees", np.column_stack([y, height - x]), 1.0
    yield "the image turned by 90 degrees and mirrored", np.column_stack([width - y, height - x]), 1.0
    if slide.image.kind != "fullres":
        return
    longest = max(width, height)
    for kind, sides in (("hires", HIRES_PX), ("lowres", LOWRES_PX)):
        for side in sides:
            factor = longest / side
            if factor > 1.5 and x.max() < side and y.max() < side:
                yield f"positions read as pixels of a {kind} image of {side} px", slide.xy * factor, factor


def _percent(ratio: float) -> str:
    return f"{ratio - 1:+.0%}"
