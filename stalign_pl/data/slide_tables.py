"""Tables of a shard set's slides for the device, made by reading them once: genes, scales, colours, clusters."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stalign_pl.data.genes.vocabulary import Vocabulary
from stalign_pl.data.niches.config import NicheConfig
from stalign_pl.data.pictures.colour import SlideColour, measure_colour
from stalign_pl.data.reading.reader import BatchReader
from stalign_pl.data.shards.shard_set import SlideShard
from stalign_pl.errors import ShardError

SPOTS = 64
"""A slide's colour is measured on this many of its spots."""


@dataclass(frozen=True)
class SlideTables:
    """Tables of T slides, by `SpotBatch.table`, and of the genes. Rows of slides that no batch names have no meaning.

    Attributes:
        column: int64 [genes of the shard set], each gene's column among the vocabulary's G, -1 where it has none.
        measured: bool [T, G].
        target: float32 [T], the sum to which a spot's counts are scaled.
        colour: float32 [T, 3, 2], mean and sd of the slide's channels.
        common_colour: float32 [3, 2], mean and sd that every slide's colours are moved to.
        cluster: int8 [spots of all clustered slides], slide after slide; None without clusters.
        cluster_start: int64 [T], where each slide begins in `cluster`; None without clusters.
    """

    column: Tensor
    measured: Tensor
    target: Tensor
    colour: Tensor
    common_colour: Tensor
    cluster: Tensor | None = None
    cluster_start: Tensor | None = None


def read_slide_tables(
    slides: Mapping[int, SlideShard],
    vocabulary: Vocabulary,
    genes: int,
    tables: int,
    reference: Collection[int],
    by_slide_colour: bool,
    clusters: Mapping[int, np.ndarray],
) -> SlideTables:
    """Make the tables; reads a few pictures of each slide for its colour.

    Args:
        slides: all slides that a batch may name, by number.
        vocabulary: the genes that the model reads.
        genes: number of genes of the shard set.
        tables: T, number of slides of the shard set.
        reference: numbers of the training slides, whose mean colour is the common one.
        by_slide_colour: whether colours are moved; else all slides have mean 0 and sd 1, which moves nothing.
        clusters: slide number -> int8 [N], its spots' clusters, of all training slides; {} without clusters.

    Raises:
        ShardError: a slide whose colour cannot be measured, see `read_slide_colour`.
    """
    column = torch.full((genes,), -1, dtype=torch.int64)
    column[torch.from_numpy(vocabulary.genes)] = torch.arange(len(vocabulary))
    measured = torch.zeros(tables, len(vocabulary), dtype=torch.bool)
    target = torch.ones(tables)
    colour = torch.tensor([0.0, 1.0]).repeat(tables, 3, 1)
    for slide in slides.values():
        known = vocabulary.measured(slide)
        measured[slide.table] = torch.from_numpy(known)
        target[slide.table] = vocabulary.target_sum(known)
        if by_slide_colour:
            colour[slide.table] = read_slide_colour(slide).as_tensor()
    common = colour[[slides[number].table for number in reference]].mean(dim=0)
    cluster, start = _join_clusters(slides, tables, clusters)
    return SlideTables(column, measured, target, colour, common, cluster, start)


def _join_clusters(
    slides: Mapping[int, SlideShard], tables: int, clusters: Mapping[int, np.ndarray]
) -> tuple[Tensor | None, Tensor | None]:
    """Join the slides' clusters into `SlideTables.cluster` and `cluster_start`."""
    if not clusters:
        return None, None
    numbers = sorted(clusters)
    start = torch.zeros(tables, dtype=torch.int64)
    begins = torch.tensor([0, *(len(clusters[number]) for number in numbers[:-1])]).cumsum(0)
    start[[slides[number].table for number in numbers]] = begins
    return torch.from_numpy(np.concatenate([clusters[number] for number in numbers])), start


def read_slide_colour(slide: SlideShard) -> SlideColour:
    """Measure a slide's colour on the first spots of its tar's random order; needs no labels and no other slide.

    Raises:
        ShardError: every one of them is damaged.
    """
    reader = BatchReader({slide.record.number: slide}, NicheConfig(k=0), threads=1)
    ranks = np.arange(min(SPOTS, len(slide)))
    batch = reader.read(np.full(len(ranks), slide.record.number), ranks, epoch=0)
    reader.close()
    side = slide.record.spot_px
    if not batch.valid.any():
        raise ShardError(f"the first {len(ranks)} samples of a slide are all damaged, the first: {batch.damaged[0]}")
    return measure_colour(batch.spot_image[batch.valid, :side, :side].numpy())
