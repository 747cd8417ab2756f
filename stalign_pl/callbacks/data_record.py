"""DataRecord: who trains, validates and tests, and the genes, said and kept when `fit` starts."""

from __future__ import annotations

from pathlib import Path

from lightning import Callback, LightningModule, Trainer

from stalign_pl.data.datamodule import STAlignData
from stalign_pl.data.vocabulary import few_measured


class DataRecord(Callback):
    """Writes `<run>/genes.tsv`; prints the parts, their marks, and each slide that measured few of the genes.

    When the checkpoint to go on from, if any, has been taken: a refused one leaves the run's file alone.
    """

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        data: STAlignData = trainer.datamodule
        table, vocabulary = data.shard_set.genes, data.vocabulary
        path = Path(trainer.default_root_dir) / "genes.tsv"
        vocabulary.write(path, table, data.division.split_sha256)
        print(data.division.described())
        for mark in data.division.marks:
            print(f"note: {mark}")
        print(f"genes: {len(vocabulary):,} of {len(table):,}, selection {vocabulary.digest()[:12]}, in {path}")
        for line in few_measured(vocabulary, data.used_slides.values(), table):
            print(line)
