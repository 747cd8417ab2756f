"""From pictures and counts to a model's input, without a shard set: what an exported model carries along.

The same functions that a shard's samples go through, so that a spot gets the same embedding either way.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from stalign_pl.arrays import check_numbers, check_raw, is_sparse
from stalign_pl.batch.gene_panel import GenePanel
from stalign_pl.batch.inputs import ModelInputs
from stalign_pl.data.genes.normalise import log_normalised, measured_share
from stalign_pl.data.niches.config import NicheConfig
from stalign_pl.data.pictures.colour import SlideColour, colour_of, recoloured
from stalign_pl.data.pictures.resize import Interpolation, show
from stalign_pl.errors import ConfigError
from stalign_pl.gene_ids import without_version

if TYPE_CHECKING:
    from scipy import sparse

PX = 1e-3
"""A box may stand out this much, px: the user's arithmetic rounds."""


@dataclass(frozen=True)
class SlideSpots:
    """N spots of one slide, as a user has them. What is None is not shown to the model.

    Attributes:
        spot_image: uint8 [N, S, S, 3], a square picture centred on each spot, as wide as `Preparation.spot_um`.
        niche_image: uint8 [N, T, T, 3], likewise of its niche.
        counts: [N, M], raw counts, dense or scipy sparse.
        niche_counts: [N, M], summed over the niche's members, the spot itself included unless
            `Preparation.niche.leave_target_out`; weighted sums count as well.
        genes: M names, symbols or Ensembl ids (a version suffix is ignored); those that the model does not know are
            left out, columns of one gene are added up.
        niche_box: [N, 4], (x0, y0, x1, y1) of what of `niche_image` the niche is, in its pixels; None is all.
        colour: of the whole slide, where these spots are a part of it; None takes that of `spot_image`.

    Raises:
        ConfigError: nothing given, no spot, another type, dtype or shape, genes without an order, or a box that is not
            within the picture.
    """

    spot_image: np.ndarray | None = None
    niche_image: np.ndarray | None = None
    counts: np.ndarray | sparse.spmatrix | None = None
    niche_counts: np.ndarray | sparse.spmatrix | None = None
    genes: Sequence[str] = ()
    niche_box: np.ndarray | None = None
    colour: SlideColour | None = None

    def __post_init__(self) -> None:
        if all(value is None for value in (self.spot_image, self.niche_image, self.counts, self.niche_counts)):
            raise ConfigError("SlideSpots has neither pictures nor counts; give what the model is to see")
        for name, shape in (
            *(("counts", "N, M"), ("niche_counts", "N, M")),
            *(("spot_image", "N, side, side, 3"), ("niche_image", "N, side, side, 3"), ("niche_box", "N, 4")),
        ):
            if (given := getattr(self, name)) is not None:
                check_numbers(given, name, shape, or_sparse=name.endswith("counts"))
        if (n := len(self)) == 0:
            raise ConfigError("SlideSpots has no spot")
        for name in ("spot_image", "niche_image"):
            image = getattr(self, name)
            if image is not None and (
                image.dtype != np.uint8 or image.shape != (n, *image.shape[1:2] * 2, 3) or not image.size
            ):
                raise ConfigError(f"{name} is {image.dtype} {list(image.shape)}; uint8 [{n}, side, side, 3] is wanted")
        if not _is_list(self.genes):
            raise ConfigError(f"genes is a {type(self.genes).__name__}; a list of names, a column's each, is wanted")
        for name in ("counts", "niche_counts"):
            counts = getattr(self, name)
            if counts is not None and counts.shape != (n, len(self.genes)):
                raise ConfigError(f"{name} is {list(counts.shape)}; spots by genes, {[n, len(self.genes)]}, is wanted")
        if not (self.colour is None or isinstance(self.colour, SlideColour)):
            raise ConfigError(f"colour is a {type(self.colour).__name__}; a SlideColour(mean, sd) is wanted")
        if self.niche_box is not None:
            self._check_box(n)

    def _check_box(self, n: int) -> None:
        if self.niche_image is None:
            raise ConfigError("niche_box says what to show of niche_image, which is None")
        box, side = self.niche_box, self.niche_image.shape[1]
        if box.shape != (n, 4):
            raise ConfigError(f"niche_box is {list(box.shape)}; {[n, 4]} is wanted")
        inside = (box[:, :2] >= -PX) & (box[:, :2] < box[:, 2:]) & (box[:, 2:] <= side + PX)
        if not inside.all():
            spot = int(np.flatnonzero(~inside.all(axis=1))[0])
            raise ConfigError(
                f"niche_box of spot {spot} is {box[spot].tolist()}; (x0, y0, x1, y1) within the picture's {side} px "
                f"is wanted, x0 < x1 and y0 < y1"
            )

    def __len__(self) -> int:
        given = (self.spot_image, self.niche_image, self.counts, self.niche_counts)
        return next(value.shape[0] for value in given if value is not None)


@dataclass(frozen=True)
class Preparation:
    """How a model wants its input.

    Attributes:
        spot_size, niche_size: sides of the pictures that the encoders take, px.
        spot_interpolation, niche_interpolation: how pictures are resized to that.
        colour: mean and sd that every slide's colours are moved to; None leaves them.
        share: float64 [G], see `expression.measured_share`.
        total: what the counts of a spot whose slide measured the whole panel are scaled to, before log1p.
        niche: which neighbours make a niche; `image` says whether its picture is the box of them or the field of view.
        spot_um, niche_um: smallest and largest side of the training slides' pictures, um; niche's: field of view.
    """

    spot_size: int
    niche_size: int
    spot_interpolation: Interpolation
    niche_interpolation: Interpolation
    colour: SlideColour | None
    share: np.ndarray
    total: float
    niche: NicheConfig
    spot_um: tuple[float, float]
    niche_um: tuple[float, float]

    def batches(self, spots: SlideSpots, panel: GenePanel, size: int) -> Iterator[ModelInputs]:
        """The spots in batches of `size`, in their order.

        Raises:
            ConfigError: no gene in common with the model, counts that cannot be raw, or no colour to start from.
        """
        counts, niche_counts = (
            each.tocsr() if is_sparse(each) else each for each in (spots.counts, spots.niche_counts)
        )
        genes = None if counts is None and niche_counts is None else _Genes.of(panel, spots, self)
        pictures = spots.spot_image is not None or spots.niche_image is not None
        colours = (_own_colour(spots).as_tensor(), self.colour.as_tensor()) if self.colour and pictures else None
        for start in range(0, len(spots), size):
            rows = slice(start, start + size)
            spot_image = self._pictures("spot", spots.spot_image, None, rows, colours)
            niche_image = self._pictures("niche", spots.niche_image, spots.niche_box, rows, colours)
            yield ModelInputs(
                spot_image=spot_image,
                spot_genes=None if counts is None else genes.expression(counts[rows], "counts"),
                niche_image=niche_image,
                niche_genes=None if niche_counts is None else genes.expression(niche_counts[rows], "niche_counts"),
                measured=None if genes is None else genes.measured.expand(len(range(len(spots))[rows]), -1),
            )

    def _pictures(
        self,
        scale: str,
        image: np.ndarray | None,
        box: np.ndarray | None,
        rows: slice,
        colours: tuple[Tensor, Tensor] | None,
    ) -> Tensor | None:
        """float32 [B, 3, size, size] of the rows; `colours`: the slide's and the common one, [3, 2]."""
        if image is None:
            return None
        size, how = getattr(self, f"{scale}_size"), getattr(self, f"{scale}_interpolation")
        picture = torch.from_numpy(np.ascontiguousarray(image[rows]))
        side = torch.full((len(picture),), float(picture.shape[1]))
        whole = torch.stack([0 * side, 0 * side, side, side], dim=1)
        shown = show(picture, whole if box is None else torch.as_tensor(box[rows]).float(), side, size, None, how)
        return shown if colours is None else recoloured(shown, colours[0].expand(len(shown), -1, -1), colours[1])


@dataclass(frozen=True)
class _Genes:
    """A slide's genes and a model's: the place of each of M names in the panel or -1, and what was measured."""

    column: np.ndarray
    measured: Tensor
    target: float

    @classmethod
    def of(cls, panel: GenePanel, spots: SlideSpots, how: Preparation) -> _Genes:
        column = panel_columns(panel, spots.genes)
        measured = np.zeros(len(panel), bool)
        measured[column[column >= 0]] = True
        if not measured.any():
            raise ConfigError(
                f"none of the {len(spots.genes)} genes is one of the model's {len(panel)}: they begin "
                f"{list(spots.genes[:3])}, the model's {list(panel.symbols[:3])} ({list(panel.ids[:3])})"
            )
        return cls(column, torch.from_numpy(measured), how.total * measured_share(how.share, measured))

    def expression(self, counts: Any, name: str) -> Tensor:
        """float32 [B, G] of raw counts [B, M]; columns of one gene are added up. `name` is the field's."""
        kept = np.flatnonzero(self.column >= 0)
        chosen = counts[:, kept]
        dense = np.asarray(chosen.toarray() if hasattr(chosen, "toarray") else chosen, np.float32)
        check_raw(dense, name, whole=name == "counts")  # those of a niche may be weighed
        over = torch.zeros(len(dense), len(self.measured))
        over.index_add_(1, torch.from_numpy(self.column[kept]), torch.from_numpy(np.ascontiguousarray(dense)))
        return log_normalised(over, torch.full((len(over),), self.target), self.measured.expand_as(over))


def panel_columns(panel: GenePanel, names: Sequence[str]) -> np.ndarray:
    """int64 [M]: each name's place in the panel, -1 where it has none; ids before symbols, of two the first."""
    place: dict[str, int] = {}
    for known in (panel.symbols, panel.ids):
        place |= {name: number for number, name in reversed(list(enumerate(known))) if name}
    return np.array([place.get(without_version(str(name)), -1) for name in names], np.int64)


def _is_list(names: Any) -> bool:
    """Whether it has an order: a list, a tuple, an array, pandas' Series or Index."""
    return all(hasattr(names, name) for name in ("__getitem__", "__len__")) and not isinstance(names, (str, Mapping))


def _own_colour(spots: SlideSpots) -> SlideColour:
    if spots.colour is not None:
        return spots.colour
    if spots.spot_image is None:
        raise ConfigError("the slide's colour is read off spot_image, which is None: give SlideSpots its `colour`")
    return colour_of(spots.spot_image)
