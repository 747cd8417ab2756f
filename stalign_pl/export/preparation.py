"""Prepare a model's input from images and counts, without a shard set.

The functions are those that prepare a shard's samples, so a spot gets the same embedding either way.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor

from stalign_pl.arrays import check_numbers, check_raw
from stalign_pl.batch.gene_panel import GenePanel
from stalign_pl.batch.inputs import ModelInputs
from stalign_pl.data.genes.normalise import compute_measured_share, log_normalise_rows
from stalign_pl.data.niches.config import NicheConfig
from stalign_pl.data.pictures.colour import SlideColour, measure_colour, recolour
from stalign_pl.data.pictures.resize import Interpolation, crop_and_resize
from stalign_pl.errors import ConfigError
from stalign_pl.gene_ids import without_version

if TYPE_CHECKING:
    from scipy import sparse

    Counts = np.ndarray | sparse.spmatrix

PX = 1e-3
"""A box may exceed the image by this much, px: for rounding."""


@dataclass(frozen=True)
class SlideSpots:
    """A user's N spots of one slide. The model does not get what is None.

    Attributes:
        spot_image: uint8 [N, S, S, 3], a square image centred on each spot, as wide as `Preparation.spot_um`.
        niche_image: uint8 [N, T, T, 3], likewise of its niche.
        counts: [N, M], raw counts, dense or scipy sparse.
        niche_counts: [N, M], summed over the niche's members, the spot itself included unless
            `Preparation.niche.leave_target_out`; weighted sums are allowed.
        genes: M names, symbols or Ensembl ids (a version suffix is ignored); those that the model does not know are
            ignored, columns of one gene are added up.
        niche_box: [N, 4], (x0, y0, x1, y1) of the niche within `niche_image`, in its pixels; None is all of it.
        colour: of the whole slide, if these spots are a part of it; None takes that of `spot_image`.

    Raises:
        ConfigError: neither images nor counts, no spot, another type, dtype or shape, genes without an order, or a box
            that is not within the image.
    """

    spot_image: np.ndarray | None = None
    niche_image: np.ndarray | None = None
    counts: Counts | None = None
    niche_counts: Counts | None = None
    genes: Sequence[str] = ()
    niche_box: np.ndarray | None = None
    colour: SlideColour | None = None

    def __post_init__(self) -> None:
        if all(value is None for value in (self.spot_image, self.niche_image, self.counts, self.niche_counts)):
            raise ConfigError("SlideSpots has neither pictures nor counts; give what the model is to see")
        self._check_arrays()
        if len(self) == 0:
            raise ConfigError("SlideSpots has no spot")
        self._check_images()
        if not _is_list(self.genes):
            raise ConfigError(f"genes is a {type(self.genes).__name__}; a list of names, a column's each, is wanted")
        self._check_counts()
        if not (self.colour is None or isinstance(self.colour, SlideColour)):
            raise ConfigError(f"colour is a {type(self.colour).__name__}; a SlideColour(mean, sd) is wanted")
        if self.niche_box is not None:
            self._check_box(self.niche_box)

    def _check_arrays(self) -> None:
        for name, shape in (
            *(("counts", "N, M"), ("niche_counts", "N, M")),
            *(("spot_image", "N, side, side, 3"), ("niche_image", "N, side, side, 3"), ("niche_box", "N, 4")),
        ):
            if (given := getattr(self, name)) is not None:
                check_numbers(given, name, shape, or_sparse=name.endswith("counts"))

    def _check_images(self) -> None:
        n = len(self)
        for name in ("spot_image", "niche_image"):
            image: np.ndarray | None = getattr(self, name)
            if image is not None and (
                image.dtype != np.uint8 or image.shape != (n, *image.shape[1:2] * 2, 3) or not image.size
            ):
                raise ConfigError(f"{name} is {image.dtype} {list(image.shape)}; uint8 [{n}, side, side, 3] is wanted")

    def _check_counts(self) -> None:
        wanted = (len(self), len(self.genes))
        for name in ("counts", "niche_counts"):
            counts = getattr(self, name)
            if counts is not None and counts.shape != wanted:
                raise ConfigError(f"{name} is {list(counts.shape)}; spots by genes, {list(wanted)}, is wanted")

    def _check_box(self, box: np.ndarray) -> None:
        if self.niche_image is None:
            raise ConfigError("niche_box says what to show of niche_image, which is None")
        n, side = len(self), self.niche_image.shape[1]
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
    """How a model's input is prepared.

    Attributes:
        spot_size: side of the spot image that the encoder takes, px.
        niche_size: side of the niche image that the encoder takes, px.
        spot_interpolation: for resizing spot images.
        niche_interpolation: for resizing niche images.
        colour: mean and sd to which every slide's colours are normalised; None keeps them.
        share: float64 [G], see `data.genes.normalise.compute_measured_share`.
        total: target sum, before log1p, of a spot's counts if its slide measured the whole panel.
        niche: which neighbours are in a niche, and whether its image is their bounding box or the field of view.
        spot_um: smallest and largest side of the training slides' spot images, um.
        niche_um: smallest and largest side of the training slides' fields of view, um.
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
        """Yield the model's input in batches, in the order of the spots.

        Args:
            spots: of one slide.
            panel: the model's genes.
            size: spots in a batch.

        Raises:
            ConfigError: no gene in common with the model, counts that cannot be raw, or no colour of the slide.
        """
        counts, niche_counts = _make_indexable(spots.counts), _make_indexable(spots.niche_counts)
        genes = None if counts is None and niche_counts is None else _GeneColumns.match(panel, spots, self)
        has_images = spots.spot_image is not None or spots.niche_image is not None
        colours = (_find_colour(spots).as_tensor(), self.colour.as_tensor()) if self.colour and has_images else None
        for start in range(0, len(spots), size):
            rows = slice(start, start + size)
            spot_image = self._prepare_images("spot", spots.spot_image, None, rows, colours)
            niche_image = self._prepare_images("niche", spots.niche_image, spots.niche_box, rows, colours)
            yield ModelInputs(
                spot_image=spot_image,
                spot_genes=None if genes is None or counts is None else genes.normalise(counts[rows], "counts"),
                niche_image=niche_image,
                niche_genes=None
                if genes is None or niche_counts is None
                else genes.normalise(niche_counts[rows], "niche_counts"),
                measured=None if genes is None else genes.measured.expand(len(range(len(spots))[rows]), -1),
            )

    def _prepare_images(
        self,
        scale: str,
        image: np.ndarray | None,
        box: np.ndarray | None,
        rows: slice,
        colours: tuple[Tensor, Tensor] | None,
    ) -> Tensor | None:
        """Return float32 [B, 3, size, size] of the rows.

        Args:
            scale: spot or niche.
            image: uint8 [N, S, S, 3].
            box: [N, 4], see `SlideSpots.niche_box`.
            rows: of the batch.
            colours: mean and sd of the slide and of all slides, [3, 2] each; None keeps the colours.
        """
        if image is None:
            return None
        size, how = getattr(self, f"{scale}_size"), getattr(self, f"{scale}_interpolation")
        picture = torch.from_numpy(np.ascontiguousarray(image[rows]))
        side = torch.full((len(picture),), float(picture.shape[1]))
        whole = torch.stack([0 * side, 0 * side, side, side], dim=1)
        shown = crop_and_resize(
            picture, whole if box is None else torch.as_tensor(box[rows]).float(), side, size, None, how
        )
        return shown if colours is None else recolour(shown, colours[0].expand(len(shown), -1, -1), colours[1])


@dataclass(frozen=True)
class _GeneColumns:
    """How a slide's M genes map to a model's G.

    Attributes:
        column: int64 [M], column in the panel, -1 for genes that are not in it.
        measured: bool [G], genes of the panel that the slide has.
        target: sum to which a spot's counts are scaled.
    """

    column: np.ndarray
    measured: Tensor
    target: float

    @classmethod
    def match(cls, panel: GenePanel, spots: SlideSpots, how: Preparation) -> _GeneColumns:
        """Map the genes of `spots` to those of the panel."""
        column = find_panel_columns(panel, spots.genes)
        measured = np.zeros(len(panel), bool)
        measured[column[column >= 0]] = True
        if not measured.any():
            raise ConfigError(
                f"none of the {len(spots.genes)} genes is one of the model's {len(panel)}: they begin "
                f"{list(spots.genes[:3])}, the model's {list(panel.symbols[:3])} ({list(panel.ids[:3])})"
            )
        return cls(column, torch.from_numpy(measured), how.total * compute_measured_share(how.share, measured))

    def normalise(self, counts: np.ndarray | sparse.csr_matrix, name: str) -> Tensor:
        """Return log-normalised expression, float32 [B, G]; columns of one gene are added up.

        Args:
            counts: [B, M], raw.
            name: of the field, for messages.
        """
        kept = np.flatnonzero(self.column >= 0)
        chosen = counts[:, kept]
        dense = np.asarray(chosen if isinstance(chosen, np.ndarray) else chosen.toarray(), np.float32)
        check_raw(dense, name, whole=name == "counts")  # those of a niche may be weighted
        over = torch.zeros(len(dense), len(self.measured))
        over.index_add_(1, torch.from_numpy(self.column[kept]), torch.from_numpy(np.ascontiguousarray(dense)))
        return log_normalise_rows(over, torch.full((len(over),), self.target), self.measured.expand_as(over))


def find_panel_columns(panel: GenePanel, names: Sequence[str]) -> np.ndarray:
    """Return int64 [M], each name's column in the panel, -1 if it has none; ids before symbols, of two the first."""
    place: dict[str, int] = {}
    for known in (panel.symbols, panel.ids):
        place |= {name: number for number, name in reversed(list(enumerate(known))) if name}
    return np.array([place.get(without_version(str(name)), -1) for name in names], np.int64)


def _make_indexable(counts: Counts | None) -> np.ndarray | sparse.csr_matrix | None:
    """Return counts whose rows can be selected; `SlideSpots` has checked that they are dense or sparse."""
    return counts if counts is None or isinstance(counts, np.ndarray) else cast("sparse.csr_matrix", counts).tocsr()


def _is_list(names: object) -> bool:
    """Whether the names have an order: a list, a tuple, an array, pandas' Series or Index."""
    return all(hasattr(names, name) for name in ("__getitem__", "__len__")) and not isinstance(names, (str, Mapping))


def _find_colour(spots: SlideSpots) -> SlideColour:
    """Return the colour of the slide, else of its spot images."""
    if spots.colour is not None:
        return spots.colour
    if spots.spot_image is None:
        raise ConfigError("the slide's colour is read off spot_image, which is None: give SlideSpots its `colour`")
    return measure_colour(spots.spot_image)
