"""What is said and kept when training starts: patients, genes, and what the batches are made of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from lightning import Callback, LightningModule, Trainer

from stalign_pl.data.epoch.figures import compute_figures
from stalign_pl.data.epoch.plan import PADDING
from stalign_pl.data.genes.vocabulary import report_few_measured
from stalign_pl.data.trainer import get_data, get_loader
from stalign_pl.errors import join_names
from stalign_pl.models import ScGPT


class DataRecord(Callback):
    """Writes `<run>/genes.tsv`; prints the parts, their marks, slides that measured few of the genes, what scGPT knows.

    When the checkpoint to go on from, if any, has been taken: a refused one leaves the run's file alone.
    """

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        data = get_data(trainer)
        table, vocabulary = data.shard_set.genes, data.vocabulary
        path = Path(trainer.default_root_dir) / "genes.tsv"
        vocabulary.write(path, table, data.division.split_sha256)
        print(data.division.describe())
        for mark in data.division.marks:
            print(f"note: {mark}")
        print(f"genes: {len(vocabulary):,} of {len(table):,}, selection {vocabulary.digest()[:12]}, in {path}")
        for line in report_few_measured(vocabulary, data.used_slides.values(), table):
            print(line)
        for name, stream in pl_module.get_submodule("model").named_children():
            if isinstance(stream, ScGPT):
                known, absent = len(vocabulary) - len(stream.left_out), join_names(stream.left_out)
                print(f"{name}: scGPT knows {known:,} of {len(vocabulary):,} genes; not: {absent or 'none'}")


class PlanRecord(Callback):
    """Prints the figures of the epoch's plan; logs `train/slides` and `train/padding` of each global batch.

    `train/slides` counts a global batch's slides, `train/padding` is the share of its rows that are no spots (0 to 1).
    Both are worked out from the plan, on the host: the same on every rank, and no wait for the device. What share of
    the pairs is masked is not estimated here, for that reads the shards: `train/masked_pairs` counts it each step.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Not at `on_fit_start`: a run that goes on knows its epoch only from here."""
        if trainer.is_global_zero:
            data, epoch = get_data(trainer), trainer.current_epoch
            lines = compute_figures(data.training_plan(epoch), epoch, data.train_slides).describe()
            print("the plan: " + "; ".join(f"{name}: {value}" for name, value in lines), flush=True)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int) -> None:
        slides = get_data(trainer).training_plan(get_loader(trainer.train_dataloader).epoch).slide[batch_idx]
        valid = slides != PADDING
        pl_module.log("train/slides", float(len(np.unique(slides[valid]))))
        pl_module.log("train/padding", float(1 - valid.mean()))
