"""DataRecord: who trains, validates and tests, and the genes, said and kept when `fit` starts."""

from __future__ import annotations

from pathlib import Path

from lightning import Callback, LightningModule, Trainer

from stalign_pl.data.datamodule import STAlignData
from stalign_pl.data.vocabulary import few_measured
from stalign_pl.errors import listed
from stalign_pl.models import ScGPT


class DataRecord(Callback):
    """Writes `<run>/genes.tsv`; prints the parts, their marks, slides that measured few of the genes, what scGPT knows.

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
        for name, stream in pl_module.model.named_children():
            if isinstance(stream, ScGPT):
                known, absent = len(vocabulary) - len(stream.left_out), listed(stream.left_out)
                print(f"{name}: scGPT knows {known:,} of {len(vocabulary):,} genes; not: {absent or 'none'}")
