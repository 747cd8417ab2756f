"""The two pictures of a slide: its domains, and measured beside predicted genes."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from stalign_pl.evaluation.canvas import (
    PALETTE,
    UNLABELLED,
    check_positions,
    draw_spots,
    fit_panel,
    frame_spots,
    label_outer,
)
from stalign_pl.evaluation.checks import EvaluationError, check_finite, check_same_rows
from stalign_pl.evaluation.domains import match_colours

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Extent = tuple[float, float, float, float]
"""(left, right, bottom, top) of an image in micrometres, as imshow takes it; bottom > top, for y is down."""

GENES_A_FIGURE = 12
NOTE_LETTERS = 15
"""Letters of the note that an inch takes."""
LEGEND_LINE = 0.21
"""Inches a line of the legend takes."""


def draw_domains(
    xy_um: np.ndarray,
    truth: np.ndarray,
    predicted: np.ndarray,
    image: np.ndarray | None = None,
    extent: Extent | None = None,
    title: str = "",
    ari: float | None = None,
    note: str = "",
) -> Figure:
    """H&E image, annotated domains and predicted domains side by side.

    A predicted domain has the colour of the class that it matches (`match_colours`); one without a partner has a colour
    of its own. Spots without a label are grey in the annotation.

    Args:
        xy_um: [N, 2], spot centres in micrometres, y down.
        truth: [N] str, '' for unlabelled.
        predicted: [N] int, domains 0 .. k - 1.
        image: uint8 [H, W, 3] thumbnail, or None: then two panels.
        extent: where the image lies, in micrometres; needed with an image.
        title: e.g. slide, row and read-out.
        ari: printed over the prediction.
        note: small, under the panels.

    Raises:
        EvaluationError: shapes that do not fit, an image without extent, or more than 20 colours needed.
    """
    from matplotlib.lines import Line2D

    xy, pitch = check_positions(xy_um)
    truth, predicted = np.asarray(truth).astype(str), np.asarray(predicted)
    check_same_rows(positions=xy, truth=truth, predicted=predicted)
    colours = match_colours(predicted, truth)[predicted]
    classes = np.unique(truth[truth != ""])
    if max(colours.max() + 1, len(classes)) > len(PALETTE):
        raise EvaluationError(
            f"{max(colours.max() + 1, len(classes))} domains; at most {len(PALETTE)} can be told apart"
        )
    panels = 2 if image is None else 3
    width, height = fit_panel(xy, 4.2)
    entries = _list_legend_entries(classes, int(colours.max()) + 1, bool((truth == "").any()))
    columns = -(-len(entries) // max(10, int(height / LEGEND_LINE)))
    aside = columns * (0.6 + 0.075 * max(len(name) for name, _ in entries))
    tall = max(height + 1.2, LEGEND_LINE * -(-len(entries) // columns) + 0.3)
    figure = _make_figure(panels * width + 0.7 + aside, tall)
    grid = figure.subplots(1, panels, squeeze=False)
    if image is not None:
        _show_image(grid[0, 0], image, extent, xy, pitch)
    class_number = np.where(truth == "", -1, np.searchsorted(classes, truth))
    draw_spots(grid[0, -2], xy, pitch, facecolors=_paint(class_number))
    draw_spots(grid[0, -1], xy, pitch, facecolors=_paint(colours))
    grid[0, -2].set_title("annotated", fontsize=11)
    grid[0, -1].set_title("predicted" if ari is None else f"predicted, ARI {ari:.3f}", fontsize=11)
    for axes in grid[0]:
        frame_spots(axes, xy, pitch)
    label_outer(grid)
    marks = [Line2D([], [], linestyle="", marker="o", markersize=7, color=colour) for _, colour in entries]
    names = [name for name, _ in entries]
    figure.legend(marks, names, loc="outside right center", frameon=False, fontsize=9, ncols=columns)
    _describe(figure, title, note)
    return figure


def draw_expression(
    xy_um: np.ndarray,
    measured: np.ndarray,
    predicted: np.ndarray,
    genes: Sequence[str],
    title: str = "",
    scores: np.ndarray | Sequence[float] | None = None,
    note: str = "",
) -> Figure:
    """Each gene measured and predicted, side by side on one colour scale.

    The scale of a pair runs from 0 to the 99th percentile of the measured values, for a single bright spot would leave
    the rest dark. Values outside, a negative prediction too, have the end's colour, and the colour bar has an arrow.

    Args:
        xy_um: [N, 2], spot centres in micrometres, y down.
        measured: [N, g], log1p(CP10K).
        predicted: [N, g], in the same units.
        genes: [g] names, 1 to 12 a figure.
        title: e.g. slide and row.
        scores: [g] Pearson r, printed over the predictions; '-' where NaN.
        note: small, under the panels.

    Raises:
        EvaluationError: shapes that do not fit, NaN or infinity, or another number of genes than 1 to 12.
    """
    xy, pitch = check_positions(xy_um)
    if not 1 <= len(genes) <= GENES_A_FIGURE:
        raise EvaluationError(f"{len(genes)} genes for one figure; choose 1 to {GENES_A_FIGURE}")
    measured = check_finite(measured, "the measured expression", columns=len(genes))
    predicted = check_finite(predicted, "the predicted expression", columns=len(genes))
    check_same_rows(positions=xy, measured=measured, predicted=predicted)
    if scores is not None and len(scores) != len(genes):
        raise EvaluationError(f"{len(scores)} scores for {len(genes)} genes; one a gene is expected")
    across = min(2, len(genes))  # pairs in a row of panels
    down = -(-len(genes) // across)
    width, height = fit_panel(xy, 3.0)
    figure = _make_figure(across * (2 * width + 0.9) + 0.4, down * (height + 0.5) + 0.8)
    grid = figure.subplots(down, 2 * across, squeeze=False)
    for axes in grid.flat[2 * len(genes) :]:
        axes.set_axis_off()
    for number, gene in enumerate(genes):
        pair = grid[number // across, 2 * (number % across) :][:2]
        _draw_gene(figure, pair, xy, pitch, measured[:, number], predicted[:, number])
        score = "" if scores is None else (f", r = {scores[number]:.2f}" if np.isfinite(scores[number]) else ", r = -")
        pair[0].set_title(f"{gene} measured", fontsize=10)
        pair[1].set_title(f"{gene} predicted{score}", fontsize=10)
    label_outer(grid)
    _describe(figure, title, note)
    return figure


def _make_figure(width: float, height: float) -> Figure:
    """An empty figure, in inches, whose panels close up after their aspect is set; padded so that no label is cut."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    return Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(compress=True, w_pad=0.08, h_pad=0.08))


def _describe(figure: Figure, title: str, note: str) -> None:
    """Title above, note below, the note in lines as wide as the figure."""
    if title:
        figure.suptitle(title, fontsize=12)
    if note:
        lines = textwrap.wrap(note, int(figure.get_figwidth() * NOTE_LETTERS))
        figure.supxlabel("\n".join(lines), fontsize=8, color="0.3")


def _draw_gene(
    figure: Figure, pair: np.ndarray, xy: np.ndarray, pitch: float, measured: np.ndarray, predicted: np.ndarray
) -> None:
    top = float(np.percentile(measured, 99)) or float(measured.max()) or 1.0  # a gene in few spots; a gene in none
    style = {"cmap": "viridis", "clim": (0.0, top)}
    draw_spots(pair[0], xy, pitch, array=measured, **style)
    spots = draw_spots(pair[1], xy, pitch, array=predicted, **style)
    for axes in pair:
        frame_spots(axes, xy, pitch)
    below, above = min(measured.min(), predicted.min()) < 0, max(measured.max(), predicted.max()) > top
    ends = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}
    bar = figure.colorbar(spots, ax=list(pair), extend=ends[bool(below), bool(above)], fraction=0.05, pad=0.01)
    bar.set_label("log1p(CP10K)", fontsize=9)
    bar.ax.tick_params(labelsize=8)


def _show_image(axes: Axes, image: np.ndarray, extent: Extent | None, xy: np.ndarray, pitch: float) -> None:
    if extent is None or extent[1] <= extent[0] or extent[2] <= extent[3]:
        raise EvaluationError(
            f"the image's extent is {extent}; (left, right, bottom, top) with bottom > top is expected"
        )
    axes.imshow(image, extent=extent, origin="upper", interpolation="antialiased")
    draw_spots(axes, xy, pitch, facecolors="none", edgecolors="black", linewidths=0.3, alpha=0.4)
    axes.set_title("H&E with spots", fontsize=11)


def _paint(numbers: np.ndarray) -> np.ndarray:
    """[N] colour numbers (-1: unlabelled) to [N] colour names."""
    return np.array([*PALETTE, UNLABELLED])[numbers]


def _list_legend_entries(classes: np.ndarray, colours: int, unlabelled: bool) -> list[tuple[str, str]]:
    """(name, colour) of each class, of each predicted domain without a class, and of grey where it occurs."""
    names = [*classes, *(f"extra {number + 1}" for number in range(max(colours - len(classes), 0)))]
    entries = [(str(name), PALETTE[number]) for number, name in enumerate(names)]
    return entries + ([("unlabelled", UNLABELLED)] if unlabelled else [])
