"""Turns a SpotBatch into StepInputs on the device: crop, resize, recolour, augment; add up, normalise, mask genes."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from stalign_pl.batch.features import Features
from stalign_pl.batch.inputs import GeneTargets, ModelInputs, StepInputs
from stalign_pl.batch.row_keys import RowKeys
from stalign_pl.batch.spot_batch import CountPairs, SpotBatch
from stalign_pl.batch.spot_ids import SpotIds
from stalign_pl.data.genes.normalise import log_normalise_rows
from stalign_pl.data.pictures.augmentation import DRAWS, Augmentation, shuffle_within_slide
from stalign_pl.data.pictures.colour import recolour
from stalign_pl.data.pictures.resize import PictureForm, crop_and_resize
from stalign_pl.data.slide_tables import SlideTables


class BatchTransform(nn.Module):
    """The device's half of reading. Holds the slides' tables; opens no file and has no generator.

    Args:
        tables: of all slides that a batch may name.
        spot: form of the spots' pictures.
        niche: form of the niches' pictures.
    """

    column: Tensor
    measured: Tensor
    target: Tensor
    colour: Tensor
    common_colour: Tensor
    cluster: Tensor | None
    cluster_start: Tensor | None

    def __init__(self, tables: SlideTables, spot: PictureForm, niche: PictureForm) -> None:
        super().__init__()
        self.spot, self.niche = spot, niche
        for name, table in vars(tables).items():
            self.register_buffer(name, table, persistent=False)

    @torch.no_grad()
    def forward(
        self, batch: SpotBatch, augmentation: Augmentation | None = None, seed: int = 0, epoch: int = 0
    ) -> StepInputs:
        """Make the input of a step. Without augmentation it depends on the spot alone.

        Args:
            batch: rows as they were read.
            augmentation: how pictures and genes are varied; None varies nothing.
            seed: of the masks of genes; the batch brings augmentation's other draws.
            epoch: of the masks of genes.
        """
        measured = self.measured[batch.table]
        targets = GeneTargets(
            self._expression(batch.spot_counts, batch.table, measured),
            self._expression(batch.niche_counts, batch.table, measured),
            measured,
        )
        shown = ModelInputs(
            self._picture("spot", batch, augmentation),
            _prefer_cached(targets.spot, batch.features.spot_gene),
            self._picture("niche", batch, augmentation),
            _prefer_cached(targets.niche, batch.features.niche_gene),
            measured,
        )
        ids = self._ids(batch, paired=augmentation is not None)
        if augmentation is not None and augmentation.shuffle_pairs != "none":
            shown, targets = _shuffle_pairs(batch, shown, targets, everything=augmentation.shuffle_pairs == "all")
        if augmentation is not None and augmentation.mask_genes:
            shown = _mask_genes(shown, augmentation.mask_genes_of(measured, RowKeys(seed, epoch, ids.slide, ids.spot)))
        return StepInputs(shown, ids, targets)

    def _picture(
        self, scale: Literal["spot", "niche"], batch: SpotBatch, how: Augmentation | None
    ) -> Tensor | Features:
        """Make the scale's pictures, float32 [B, 3, size, size] in [0, 1], or take its encoder's cached features."""
        if scale == "spot":
            form, cached = self.spot, batch.features.spot_image
            image, box, px = batch.spot_image, batch.spot_box, batch.spot_px
        else:
            form, cached = self.niche, batch.features.niche_image
            image, box, px = batch.niche_image, batch.niche_box, batch.niche_px
        if cached is not None:
            return Features(cached)
        if how is None:
            return self._recolour(crop_and_resize(image, box, px, form.size, None, form.interpolation), batch.table)
        box, turns = how.boxes(box, batch.draws), how.turns(batch.draws)
        shown = self._recolour(crop_and_resize(image, box, px, form.size, turns, form.interpolation), batch.table)
        return how.colours(shown, batch.draws)

    def _ids(self, batch: SpotBatch, paired: bool) -> SpotIds:
        """Identify the rows; `paired`: with clusters and draws for paired negatives, where there are clusters."""
        cluster, draws = (None, None)
        if paired and self.cluster is not None and self.cluster_start is not None:
            place = torch.where(batch.valid, self.cluster_start[batch.table] + batch.spot, 0)
            cluster, draws = torch.where(batch.valid, self.cluster[place].long(), -1), batch.draws[:, DRAWS:]
        slide, spot = batch.slide.clamp(min=0), batch.spot.clamp(min=0)
        return SpotIds(slide, spot, batch.excluded.long(), batch.valid, cluster, draws)

    def _recolour(self, image: Tensor, table: Tensor) -> Tensor:
        """Move each slide's colours to the common mean and sd."""
        return recolour(image, self.colour[table], self.common_colour)

    def _expression(self, pairs: CountPairs, table: Tensor, measured: Tensor) -> Tensor:
        """Sum the pairs, scale to the slide's target sum, then log1p.

        Whole counts below 2^24 add up exactly in fp32 in any order, so atomics on a GPU do no harm.

        Args:
            pairs: counts of B rows.
            table: int64 [B], the rows' slides.
            measured: bool [B, G].

        Returns:
            float32 [B, G].
        """
        column = self.column[pairs.gene.long()]
        kept = column >= 0
        place = pairs.row[kept] * measured.shape[1] + column[kept]
        counts = torch.zeros(measured.numel(), device=measured.device)
        counts = counts.index_add_(0, place, pairs.count.float()[kept]).view(measured.shape)
        return log_normalise_rows(counts, self.target[table], measured)


def _prefer_cached(genes: Tensor, cached: Tensor | None) -> Tensor | Features:
    """Cached features where there are any, else the expression."""
    return genes if cached is None else Features(cached)


def _shuffle_pairs(
    batch: SpotBatch, shown: ModelInputs, targets: GeneTargets, everything: bool
) -> tuple[ModelInputs, GeneTargets]:
    """Give each row the genes of another spot of its slide; with `everything`, each input of a different spot."""
    partner = [shuffle_within_slide(batch.table, batch.valid, batch.draws, step) for step in (1, 2, 3)]
    spot, niche = partner[0], partner[1 if everything else 0]
    shuffled = replace(shown, spot_genes=_select(shown.spot_genes, spot), niche_genes=_select(shown.niche_genes, niche))
    if everything:
        shuffled = replace(shuffled, niche_image=_select(shown.niche_image, partner[2]))
    return shuffled, GeneTargets(targets.spot[spot], targets.niche[niche], targets.measured)


def _select(given: Tensor | Features | None, rows: Tensor) -> Tensor | Features | None:
    """Select rows; None stays None."""
    return None if given is None else given[rows]


def _mask_genes(shown: ModelInputs, measured: Tensor) -> ModelInputs:
    """Mask all genes but those in `measured`, bool [B, G]; cached features stay as they are."""
    masked = (
        genes.where(measured, 0) if isinstance(genes, Tensor) else genes
        for genes in (shown.spot_genes, shown.niche_genes)
    )
    spot, niche = masked
    return replace(shown, spot_genes=spot, niche_genes=niche, measured=measured)
