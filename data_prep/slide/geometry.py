"""Scale and geometry: does everything that speaks of a slide's scale agree, and do the spots sit on the tissue?

The lattice is what is trusted: spots are printed 100 um (Visium) or 200 um (legacy ST) apart. What else speaks of the
scale (metadata, the spots' diameter) is compared with it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from data_prep.slide.curation import SetAside
from data_prep.slide.quality import measure_share
from data_prep.slide.slide import Slide
from data_prep.slide.spot_tree import find_nearest

SPOT_DIAMETER = (1.0, 1.3)
"""A file's spot diameter over the true one. Space Ranger states a theoretical 65 um for spots of 55 (10x's pages), and
on HumanPilot 70 was measured; STimage-1K4M's radius is of either kind."""

GRID_RESIDUAL = 0.25
"""Positions may stray this far (median, in pitches) from where the grid puts them; legacy arrays jitter by .1."""

FAR_FROM_GRID = 1.5
"""No spot may stray further (in pitches): it would stand on another's place, as one whose number was cut off does."""

GRID_SKEW = 0.2
"""The grid's two steps may differ in length by this share; on a real legacy array (mouse olfactory bulb) it is .11."""

STRETCH_SPOTS = 12
"""Fewer spots inside an array say nothing of its stretch."""

WIDEST_GAP = np.deg2rad(130)
"""A spot is inside the array if no two neighbours in turn, of the nearest six, leave a wider angle open."""

MISFIT = 0.1
"""Another orientation must put this much more of the spots' area on tissue to be believed."""

BELIEVED_FROM = 0.75
"""... and at least this share in all: two readings of noise differ, too."""

CONVINCED_ABOVE = 0.9
"""Where this share of the spots' area is on tissue as given, no other orientation is looked for."""

LOST_BELOW = 0.35
"""Positions shifted as a whole are looked for where less than this share of the spots' area is on tissue: a section
that is larger than the array offers a better place to many a good slide."""

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
                f"{slide.pitch_px:.1f} px): {_format_percent(claimed / lattice)}, more than {tolerance:.0%} apart",
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
        SetAside: positions that are scattered about the grid, one that is far off it, or an array that is stretched
            along one axis.
    """
    if slide.grid is None:
        _check_stretch(slide)
        return
    if len(slide) < 6:
        return
    places = np.column_stack([slide.lattice_xy, np.ones(len(slide))])
    fit, _, rank, _ = np.linalg.lstsq(places, slide.xy, rcond=None)
    if rank < 3:
        return  # a single row of spots says nothing of a second axis
    steps = np.linalg.svd(fit[:2], compute_uv=False)
    strays = np.linalg.norm(places @ fit - slide.xy, axis=1) / max(steps[0], 1e-9)
    stray, worst = float(np.median(strays)), int(strays.argmax())
    if stray > GRID_RESIDUAL:
        raise SetAside(
            slide.name,
            "grid",
            f"positions stray {stray:.2f} pitches (median) from where array_row and array_col put them; at most "
            f"{GRID_RESIDUAL} are believed. Are positions and barcodes of one slide?",
        )
    if steps[0] > steps[1] * (1 + GRID_SKEW):
        raise _make_stretch_verdict(slide, steps[1], steps[0])
    if strays[worst] > FAR_FROM_GRID:
        raise SetAside(
            slide.name,
            "grid",
            f"the position of {str(slide.barcodes[worst])!r}, {slide.xy[worst].tolist()}, strays {strays[worst]:.1f} "
            f"pitches from where array_row and array_col put it; at most {FAR_FROM_GRID} are believed",
        )


def _check_stretch(slide: Slide) -> None:
    """Compare, without a grid, the two axes of a hexagonal array.

    The six nearest of a spot inside the array lie around it as far one way as the other.

    Raises:
        SetAside: they do not.
    """
    if slide.technology != "Visium" or len(slide) < STRETCH_SPOTS:
        return
    _, nearest = find_nearest(slide.xy, 7)
    steps = slide.xy[nearest[:, 1:]] - slide.xy[:, None]
    angles = np.sort(np.arctan2(steps[..., 1], steps[..., 0]), axis=1)
    gaps = np.diff(angles, axis=1, append=angles[:, :1] + 2 * np.pi).max(axis=1)
    inside = steps[gaps < WIDEST_GAP]
    if len(inside) < STRETCH_SPOTS:
        return
    spread = np.einsum("nki,nkj->ij", inside, inside) / inside.shape[0]
    short, long = np.sqrt(np.linalg.eigvalsh(spread) / 3)  # of six unit steps at equal angles, each way holds three
    if long > short * (1 + GRID_SKEW):
        raise _make_stretch_verdict(slide, short, long)


def _make_stretch_verdict(slide: Slide, short: float, long: float) -> SetAside:
    return SetAside(
        slide.name,
        "grid",
        f"the array is stretched: a pitch is {short:.1f} px one way and {long:.1f} px the other. Is one of x and y on "
        f"another scale?",
    )


def check_orientation(slide: Slide, mask: np.ndarray, mask_per_px: float) -> None:
    """Look whether the spots would sit on the tissue better with x and y swapped, mirrored, turned, scaled or shifted.

    Only a slide whose spots clearly miss the tissue, where another reading of the same numbers clearly hits it, is set
    aside: tissue that fills the image, or an unfiltered array, says nothing.

    Args:
        mask: bool [H, W], tissue on a thumbnail of the image.
        mask_per_px: mask pixels per full-resolution pixel.

    Raises:
        SetAside: names the reading that fits, with both shares.
    """
    radius = slide.spot_um / slide.um_per_px / 2 * mask_per_px
    given = float(measure_share(mask, slide.xy * mask_per_px, radius).mean())
    if given > CONVINCED_ABOVE:
        return
    found = [
        (float(measure_share(mask, xy * mask_per_px, radius * scale).mean()), name)
        for name, xy, scale in list_readings(slide, mask, mask_per_px)
    ]
    share, name = max(found)
    if given < LOST_BELOW and share <= BELIEVED_FROM:
        (dx, dy), share = find_best_shift(slide, mask, mask_per_px, radius)
        name = f"positions shifted by ({dx:.0f}, {dy:.0f}) px"
    if share > given + MISFIT and share > BELIEVED_FROM:
        raise SetAside(
            slide.name,
            "orientation",
            f"{given:.0%} of the spots' area is on tissue as given, {share:.0%} with {name}. Mend the positions or the "
            f"image, or, if they are right, set `curation: orientation: false`",
        )


def list_readings(slide: Slide, mask: np.ndarray, mask_per_px: float) -> Iterator[tuple[str, np.ndarray, float]]:
    """Yield other readings of a slide's positions.

    Yields:
        What was done; [N, 2] positions in full-resolution pixels; scale of the spots.
    """
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


def find_best_shift(
    slide: Slide, mask: np.ndarray, mask_per_px: float, radius: float
) -> tuple[tuple[float, float], float]:
    """Find the shift of all spots, (x, y) in full-resolution pixels, that puts most of their area on tissue.

    The spots' centres are correlated with the share of tissue around every pixel of the mask (by Fourier transform).

    Args:
        slide: whose spots are shifted.
        mask: bool [H, W], tissue on a thumbnail of the image.
        mask_per_px: mask pixels per full-resolution pixel.
        radius: of a spot, in pixels of the mask.

    Returns:
        The shift, and the share of the spots' area that is then on tissue.
    """
    from scipy.ndimage import uniform_filter
    from scipy.signal import fftconvolve

    around = uniform_filter(mask.astype(np.float32), max(1, round(2 * radius)), mode="constant")
    places = np.floor(slide.xy * mask_per_px).astype(int)
    low = places.min(axis=0)
    width, height = places.max(axis=0) - low + 1
    spots = np.zeros((height, width), np.float32)
    np.add.at(spots, tuple((places - low).T[::-1]), 1.0)
    found = fftconvolve(around, spots[::-1, ::-1])  # [y, x]: the spots' box ends at that row and column
    y, x = np.unravel_index(found.argmax(), found.shape)
    shift = (np.array([x - (width - 1), y - (height - 1)]) - low) / mask_per_px
    share = float(measure_share(mask, (slide.xy + shift) * mask_per_px, radius).mean())
    return (float(shift[0]), float(shift[1])), share


def _format_percent(ratio: float) -> str:
    return f"{ratio - 1:+.0%}"
