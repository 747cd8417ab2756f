"""Which training slides a held-out slide is compared with: those that measured its genes, and the genes all share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from stalign_pl.data.datamodule import STAlignData
from stalign_pl.data.reading.niche_table import read_niche_sums
from stalign_pl.data.shards.shard_set import SlideShard
from stalign_pl.evaluation.expression import intersect_panels

if TYPE_CHECKING:
    from scipy import sparse


@dataclass(frozen=True)
class SharedGenes:
    """Attributes:
    slides: numbers of the training slides that join a fit, ascending.
    panel: int64 [P], sorted: gene indices that these and the held-out slide measured.
    """

    slides: tuple[int, ...]
    panel: np.ndarray

    def same(self, other: SharedGenes) -> bool:
        return self.slides == other.slides and np.array_equal(self.panel, other.panel)


def find_shared_genes(data: STAlignData, shard: SlideShard, coverage: float) -> SharedGenes | None:
    """The training slides that measured at least `coverage` of a held-out slide's vocabulary genes; None without."""
    wanted = np.intersect1d(data.vocabulary.genes, shard.panel)
    slides = tuple(
        number
        for number, slide in sorted(data.train_slides.items())
        if len(wanted) and np.isin(wanted, slide.panel).mean() >= coverage and len(data.fit_ranks[number])
    )
    if not slides:
        return None
    return SharedGenes(slides, intersect_panels([shard.panel, *(data.train_slides[number].panel for number in slides)]))


def list_fitting_spots(data: STAlignData, slide: int) -> np.ndarray:
    """int [F], ascending: the spots of a training slide that read-outs are fitted on (`fit_ranks`)."""
    return np.sort(data.train_slides[slide].spot_of_rank[data.fit_ranks[slide]])


def read_fitting_counts(data: STAlignData, slides: Iterable[int]) -> Iterator[sparse.csr_matrix]:
    """[F, G] raw counts of each training slide's fitting spots."""
    for number in slides:
        yield data.train_slides[number].csr(len(data.shard_set.genes), list_fitting_spots(data, number))


def read_fitting_niches(data: STAlignData, slides: Iterable[int], panel: np.ndarray) -> Iterator[sparse.csr_matrix]:
    """[F, G] their niches' counts of the panel's genes, summed as the model's are."""
    for number in slides:
        genes = len(data.shard_set.genes)
        yield read_niche_sums(data.train_slides[number], data.niche, genes, panel, data.fit_ranks[number])
