"""SpotBatch on the device -> ModelInputs: crop, resize, stain, augment; add up, normalise and mask genes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from stalign_pl.batch.features import Features
from stalign_pl.batch.inputs import GeneTargets, ModelInputs
from stalign_pl.batch.row_keys import RowKeys
from stalign_pl.batch.spot_batch import CountPairs, SpotBatch
from stalign_pl.batch.spot_ids import SpotIds
from stalign_pl.data.genes.normalise import log_normalised
from stalign_pl.data.genes.vocabulary import Vocabulary
from stalign_pl.data.pictures.augmentation import DRAWS, Augmentation, shuffled_within_slide
from stalign_pl.data.pictures.colour import recoloured
from stalign_pl.data.pictures.resize import Interpolation, show
from stalign_pl.data.shards.shard_set import SlideShard
from stalign_pl.data.slide_tables import slide_colour


class BatchTransform(nn.Module):
    """The device's half of reading. Knows the per-slide tables; draws nothing itself.

    Args:
        slides: all slides that a batch may name, by number; the batch's `table` counts the set's slides.
        vocabulary: the genes.
        spot_size, niche_size: sides of the pictures that the encoders take, px.
        spot_interpolation, niche_interpolation: how they are resized, see `show`.
        stain: "slide" moves every slide's colours to the mean and sd of all slides listed in `reference`;
            "none" leaves them.
        reference: the training slides.
        tables: number of slides in the set.
        clusters: slide number -> int8 [N], its spots' clusters, of all slides that are trained on; {} without.
    """

    def __init__(
        self,
        slides: dict[int, SlideShard],
        vocabulary: Vocabulary,
        genes: int,
        spot_size: int,
        niche_size: int,
        stain: str,
        reference: list[int],
        tables: int,
        clusters: Mapping[int, np.ndarray] | None = None,
        spot_interpolation: Interpolation = "bilinear",
        niche_interpolation: Interpolation = "bilinear",
    ) -> None:
        super().__init__()
        self.spot_size, self.niche_size = spot_size, niche_size
        self.spot_interpolation, self.niche_interpolation = spot_interpolation, niche_interpolation
        column = torch.full((genes,), -1, dtype=torch.int64)
        column[torch.from_numpy(vocabulary.genes)] = torch.arange(len(vocabulary))
        measured = torch.zeros(tables, len(vocabulary), dtype=torch.bool)
        target = torch.ones(tables)
        colour = torch.tensor([0.0, 1.0]).repeat(tables, 3, 1)  # [tables, channel, (mean, sd)]
        for slide in slides.values():
            known = vocabulary.measured(slide)
            measured[slide.table] = torch.from_numpy(known)
            target[slide.table] = vocabulary.target_sum(known)
            if stain == "slide":
                own = slide_colour(slide)
                colour[slide.table] = torch.stack([torch.from_numpy(own.mean), torch.from_numpy(own.sd)], dim=1)
        self.register_buffer("cluster", None, persistent=False)  # of all slides' spots, one slide after another
        if clusters:
            starts = torch.zeros(tables, dtype=torch.int64)
            numbers = sorted(clusters)
            starts[[slides[number].table for number in numbers]] = torch.tensor(
                [0, *(len(clusters[number]) for number in numbers[:-1])]
            ).cumsum(0)
            self.register_buffer("cluster_start", starts, persistent=False)
            self.cluster = torch.from_numpy(np.concatenate([clusters[number] for number in numbers]))
        common = colour[[slides[number].table for number in reference]].mean(dim=0)
        self.register_buffer("column", column, persistent=False)
        self.register_buffer("measured", measured, persistent=False)
        self.register_buffer("target", target, persistent=False)
        self.register_buffer("colour", colour, persistent=False)
        self.register_buffer("common_colour", common, persistent=False)

    @torch.no_grad()
    def forward(
        self, batch: SpotBatch, augmentation: Augmentation | None = None, seed: int = 0, epoch: int = 0
    ) -> ModelInputs:
        """Without augmentation the result depends on the spot alone.

        Args:
            seed, epoch: of the masks of genes; the batch brings augmentation's other draws.
        """
        measured, cached = self.measured[batch.table], batch.features
        spot_genes = self._expression(batch.spot_counts, batch.table, measured)
        niche_genes = self._expression(batch.niche_counts, batch.table, measured)
        targets = GeneTargets(spot_genes, niche_genes, measured)
        spot_genes = spot_genes if cached.spot_gene is None else Features(cached.spot_gene)
        niche_genes = niche_genes if cached.niche_gene is None else Features(cached.niche_gene)
        shuffle = "none" if augmentation is None else augmentation.shuffle_pairs
        if shuffle != "none":
            partner = [shuffled_within_slide(batch.table, batch.valid, batch.draws, step) for step in (1, 2, 3)]
            spot, niche = partner[0], partner[0 if shuffle == "image_gene" else 1]
            spot_genes, niche_genes = spot_genes[spot], niche_genes[niche]
            targets = GeneTargets(targets.spot[spot], targets.niche[niche], measured)
        images = []
        for features, image, box, px, size, how in (
            (cached.spot_image, batch.spot_image, batch.spot_box, batch.spot_px, *self.shown_as("spot")),
            (cached.niche_image, batch.niche_image, batch.niche_box, batch.niche_px, *self.shown_as("niche")),
        ):
            if features is not None:
                images.append(Features(features))
            elif augmentation is None:
                images.append(self._stained(show(image, box, px, size, None, how), batch.table))
            else:
                box, turns = augmentation.boxes(box, batch.draws), augmentation.turns(batch.draws)
                shown = self._stained(show(image, box, px, size, turns, how), batch.table)
                images.append(augmentation.colours(shown, batch.draws))
        if shuffle == "all":
            images[1] = images[1][partner[2]]
        ids = SpotIds(
            batch.slide.clamp(min=0),
            batch.spot.clamp(min=0),
            batch.excluded.long(),
            batch.valid,
            *(() if augmentation is None or self.cluster is None else self._pairing(batch)),
        )
        if augmentation is not None and augmentation.mask_genes:
            measured = augmentation.shown(measured, RowKeys(seed, epoch, ids.slide, ids.spot))
            spot_genes, niche_genes = (
                genes if isinstance(genes, Features) else genes.where(measured, 0)
                for genes in (spot_genes, niche_genes)
            )
        return ModelInputs(ids, images[0], spot_genes, images[1], niche_genes, measured, targets)

    def shown_as(self, scale: Literal["spot", "niche"]) -> tuple[int, Interpolation]:
        """Side in px and resizing of a scale's pictures."""
        if scale == "spot":
            return self.spot_size, self.spot_interpolation
        return self.niche_size, self.niche_interpolation

    def _pairing(self, batch: SpotBatch) -> tuple[Tensor, Tensor]:
        """The rows' clusters [B], -1 in padding, and their draws of paired negatives [B, C]."""
        place = torch.where(batch.valid, self.cluster_start[batch.table] + batch.spot, 0)
        return torch.where(batch.valid, self.cluster[place].long(), -1), batch.draws[:, DRAWS:]

    def _stained(self, image: Tensor, table: Tensor) -> Tensor:
        """Move each slide's colours to the common mean and sd."""
        return recoloured(image, self.colour[table], self.common_colour)

    def _expression(self, pairs: CountPairs, table: Tensor, measured: Tensor) -> Tensor:
        """Sum the pairs, scale to the slide's target sum, log1p. [B, G]

        Whole counts below 2^24 add up exactly in fp32 in any order, so atomics on a GPU do no harm.
        """
        column = self.column[pairs.gene.long()]
        kept = column >= 0
        place = pairs.row[kept] * measured.shape[1] + column[kept]
        counts = torch.zeros(measured.numel(), device=measured.device)
        counts = counts.index_add_(0, place, pairs.count.float()[kept]).view(measured.shape)
        return log_normalised(counts, self.target[table], measured)
