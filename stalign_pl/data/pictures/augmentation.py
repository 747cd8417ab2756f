"""Augmentation of training pictures. Each row's numbers come from `draws.draw_uniform`, never from a generator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from stalign_pl.batch.row_keys import GENE_MASK, RowKeys
from stalign_pl.draws import Draws, draw_uniform
from stalign_pl.errors import ConfigError

STREAM = 1
"""Of `draws.draw_uniform`."""

DRAWS = 16
"""Random numbers a row."""


@dataclass(frozen=True)
class Augmentation:
    """Ranges of the random changes; 0 or false turns one off. Spot and niche picture of a row are changed alike.

    Attributes:
        flips: mirror and turn by quarter turns (tissue has no upright).
        zoom: the shown box grows or shrinks by up to this share.
        shift: the shown box moves by up to this share of its side.
        brightness: factor within 1 +- this.
        contrast: factor within 1 +- this.
        stain: factor of each channel within 1 +- this.
        mask_genes: the share of a spot's measured genes that is masked: given as not measured, in spot and niche alike.
        shuffle_pairs: control. "image_gene": every spot's pictures get the genes, its own and its niche's, of another
            spot of its slide in the batch; spot and niche still belong together by both. "all": spot picture, spot
            genes, niche picture and niche genes come from four spots, so that none of the three levels holds a pair.
    """

    flips: bool = True
    zoom: float = 0.1
    shift: float = 0.05
    brightness: float = 0.1
    contrast: float = 0.1
    stain: float = 0.05
    mask_genes: float = 0.0
    shuffle_pairs: Literal["none", "image_gene", "all"] = "none"

    def __post_init__(self) -> None:
        for name in ("zoom", "shift", "brightness", "contrast", "stain", "mask_genes"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"augmentation.{name} is {getattr(self, name)}; it must be in [0, 1)")

    def draws(self, seed: int) -> Draws:
        """Make the function that draws each row's random numbers, [B, DRAWS], for BatchReader.

        Args:
            seed: of the run, or of cached views.
        """

        def draw(epoch: int, slide: np.ndarray, spot: np.ndarray) -> np.ndarray:
            return draw_uniform(seed, epoch, slide, spot, STREAM, DRAWS)

        return draw

    def mask_genes_of(self, measured: Tensor, keys: RowKeys) -> Tensor:
        """Mask genes at random.

        Args:
            measured: bool [B, G].
            keys: of the rows.

        Returns:
            bool [B, G]: the measured genes without the masked ones.
        """
        return measured & ~keys.draw_events(self.mask_genes, GENE_MASK, measured.shape[1])

    def boxes(self, box: Tensor, draws: Tensor) -> Tensor:
        """Zoom and shift boxes.

        Args:
            box: float [B, 4], (x0, y0, x1, y1) in px.
            draws: float32 [B, n] in [0, 1), n at least DRAWS, the rows' random numbers.

        Returns:
            As `box`.
        """
        side = box[:, 2:] - box[:, :2]
        centre = (box[:, 2:] + box[:, :2]) / 2 + self.shift * (2 * draws[:, 0:2] - 1) * side
        half = side / 2 * (1 + self.zoom * (2 * draws[:, 2:3] - 1))
        return torch.cat([centre - half, centre + half], dim=1)

    def turns(self, draws: Tensor) -> Tensor:
        """Draw flips and quarter turns.

        Args:
            draws: as in `boxes`.

        Returns:
            bool [B, 3]: swap axes, mirror x, mirror y.
        """
        return (draws[:, 3:6] < 0.5) & self.flips

    def colours(self, image: Tensor, draws: Tensor) -> Tensor:
        """Vary brightness, contrast and stain.

        Args:
            image: float32 [B, 3, H, W] in [0, 1].
            draws: as in `boxes`.

        Returns:
            As `image`.
        """
        sway = 2 * draws[:, 6:11] - 1
        mean = image.mean(dim=(1, 2, 3), keepdim=True)
        contrast = (1 + self.contrast * sway[:, 0])[:, None, None, None]
        gain = (1 + self.brightness * sway[:, 1:2]) * (1 + self.stain * sway[:, 2:5])
        return (((image - mean) * contrast + mean) * gain[:, :, None, None]).clamp(0, 1)


def shuffle_within_slide(table: Tensor, valid: Tensor, draws: Tensor, step: int = 1) -> Tensor:
    """Pair each row with another of its slide, `step` places on in one random cycle through the slide's rows.

    Different steps give a row different partners where its slide has more rows than steps. The only row of a slide is
    its own partner.

    Args:
        table: int64 [B], the rows' slides.
        valid: bool [B]; rows that are not valid are paired with one another.
        draws: float32 [B, n] in [0, 1), n at least DRAWS, the rows' random numbers.
        step: 1 or more.

    Returns:
        int64 [B], each row's partner.
    """
    group = torch.where(valid, table, -1).double()
    original = torch.argsort(group, stable=True)
    key = draws[:, 12].double() * 0.5
    shuffled = torch.argsort(group + key)
    sizes = torch.unique_consecutive(group[original], return_counts=True)[1]
    moved = torch.cat([part.roll(step) for part in shuffled.split(sizes.tolist())])
    partner = torch.empty_like(moved)
    partner[shuffled] = moved
    return partner
