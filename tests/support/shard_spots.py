"""A slide of a shard set as a user without shards has it: pictures, raw counts under names, boxes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stalign_pl.batch.spot_batch import CountPairs, SpotBatch
from stalign_pl.data.datamodule import STAlignData
from stalign_pl.data.epoch.plan import Composition
from stalign_pl.data.genes.selection import GeneSelection
from stalign_pl.data.niches.config import NicheConfig
from stalign_pl.data.reading.reader import BatchReader
from stalign_pl.data.slide_tables import read_slide_colour
from stalign_pl.export.preparation import SlideSpots


def data_of_tiny(shards: Path) -> STAlignData:
    """The tiny cohort as tests/support/tiny.yaml has it: slide 0 trains, 1 validates, 2 tests."""
    return STAlignData(
        str(shards),
        spot_size=32,
        niche_size=32,
        val_patients=["P2"],
        test_patients=["P3"],
        composition=Composition(slides=2, spots=8, run=4),
        niche=NicheConfig(k=3, rings=1),
        genes=GeneSelection(n=30),
    )


def read_rows(data: STAlignData, slide: int, rows: int) -> SpotBatch:
    """The first rows of a slide's tar, by the training reader."""
    reader = BatchReader({slide: data.shard_set.slides[slide]}, data.niche, threads=1)
    batch = reader.read(np.full(rows, slide), np.arange(rows), 0)
    reader.close()
    return batch


def as_user(data: STAlignData, slide: int, batch: SpotBatch, order: np.ndarray, **changes: object) -> SlideSpots:
    """Genes in another order, half of them by an id with a version, and one that nobody knows."""
    record, table = data.shard_set.slides[slide].record, data.shard_set.genes
    names = [f"{table.ids[gene]}.3" if gene % 2 else table.symbols[gene] for gene in order]
    given = {
        "spot_image": batch.spot_image[:, : record.spot_px, : record.spot_px].numpy(),
        "niche_image": batch.niche_image[:, : record.niche_px, : record.niche_px].numpy(),
        "counts": _dense(batch.spot_counts, len(batch), order),
        "niche_counts": _dense(batch.niche_counts, len(batch), order),
        "genes": ["NOBODY", *names],
        "niche_box": batch.niche_box.numpy(),
        "colour": read_slide_colour(data.shard_set.slides[slide]),
    }
    return SlideSpots(**given | changes)


def _dense(pairs: CountPairs, rows: int, order: np.ndarray) -> np.ndarray:
    """Counts of the genes in an order, behind a first column of 7."""
    counts = np.zeros((rows, max(order.max(), int(pairs.gene.numpy().max())) + 1), np.int64)
    np.add.at(counts, (pairs.row.numpy(), pairs.gene.numpy()), pairs.count.numpy())
    return np.column_stack([np.full(rows, 7), counts[:, order]])
