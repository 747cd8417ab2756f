"""Drawing spots: true to scale in micrometres, y down, and saved whole or not at all. No pyplot, no display."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stalign_pl.evaluation.checks import EvaluationError, check_finite
from stalign_pl.files import replace_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import EllipseCollection
    from matplotlib.figure import Figure

PALETTE = (
    *("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442"),
    *("#0000FF", "#222200", "#000088", "#99FFAA", "#222244", "#7766FF", "#994422"),
    *("#335555", "#55BB66", "#DDDDFF", "#CCEE77", "#003377", "#4422CC"),
)
"""Seven colours of Okabe and Ito (2008), then thirteen chosen one by one to lie farthest, in CIELAB, from those
before as seen with normal vision, deuteranopia and protanopia (simulated after Machado et al. 2009). No two of the
twenty come closer than 17 units of CIE76 difference; about 2 are just noticeable side by side."""

UNLABELLED = "#BBBBBB"
SPOT_SHARE = 0.92
"""Diameter of a drawn spot as a share of the pitch: a gap remains, so that single spots can be told apart."""
PNG_DPI = 120


def check_positions(xy_um: np.ndarray, slide: str = "") -> tuple[np.ndarray, float]:
    """Checked positions [N, 2] float64 and the pitch (median distance to the nearest spot), both in micrometres.

    Raises:
        EvaluationError: not a finite [N, 2] array of two spots or more, or all spots in one place.
    """
    from scipy.spatial import KDTree

    xy = check_finite(xy_um, "the positions", slide, columns=2).astype(np.float64)
    pitch = float(np.median(KDTree(xy).query(xy, k=2)[0][:, 1])) if len(xy) > 1 else 0.0
    if pitch <= 0:
        raise EvaluationError("a picture needs two spots or more, at different places", slide)
    return xy, pitch


def draw_spots(axes: Axes, xy: np.ndarray, pitch: float, **style: object) -> EllipseCollection:
    """Add one circle a spot, sized in micrometres; `style` goes to matplotlib (facecolors, array, cmap, ...)."""
    from matplotlib.collections import EllipseCollection

    size = np.full(len(xy), pitch * SPOT_SHARE)
    style = {"linewidths": 0, **style}
    spots = EllipseCollection(size, size, 0, units="xy", offsets=xy, offset_transform=axes.transData, **style)
    axes.add_collection(spots, autolim=False)
    return spots


def frame_spots(axes: Axes, xy: np.ndarray, pitch: float) -> None:
    """Fit the view to the spots, equal aspect, y down, few ticks in micrometres."""
    from matplotlib.ticker import MaxNLocator

    low, high = xy.min(axis=0) - pitch, xy.max(axis=0) + pitch
    axes.set_xlim(low[0], high[0])
    axes.set_ylim(high[1], low[1])
    axes.set_aspect("equal")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(3, integer=True))
    axes.tick_params(labelsize=8)
    axes.set_facecolor("white")


def label_outer(grid: np.ndarray) -> None:
    """Axis labels in micrometres at the left and below each column's last panel, tick labels nowhere else.

    Args:
        grid: [rows, columns] of axes; a panel that is switched off counts as absent.
    """
    for row in range(grid.shape[0]):
        for column in range(grid.shape[1]):
            axes = grid[row, column]
            last = row + 1 == grid.shape[0] or not grid[row + 1, column].axison
            axes.tick_params(labelbottom=last, labelleft=column == 0)
            axes.set_xlabel("x (µm)" if last else "", fontsize=9)
            axes.set_ylabel("y (µm)" if column == 0 else "", fontsize=9)


def fit_panel(xy: np.ndarray, width: float) -> tuple[float, float]:
    """Width and height in inches of a panel of the tissue's proportions, at most `width` wide and 1.6 times that high.

    A strip of tissue is taken as 1:4 at most, so that its panel still holds a title.
    """
    span = np.ptp(xy, axis=0)
    ratio = float(np.clip(span[1] / max(span[0], 1e-9), 0.25, 4.0))
    width *= min(1.0, 1.6 / ratio)
    return width, width * ratio


def save_figure(figure: Figure, path: Path) -> None:
    """Write a PNG at 120 dots an inch under a temporary name, then rename it to `path` (whose folder must exist)."""
    with replace_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=PNG_DPI, facecolor="white", metadata={"Software": None})
