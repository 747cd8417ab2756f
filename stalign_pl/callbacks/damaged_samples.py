"""DamagedSamples: names each sample that cannot be used once, counts them over all ranks, and stops at a limit."""

from __future__ import annotations

import torch
from lightning import Callback, LightningModule, Trainer

from stalign_pl.batch.damage import Damaged, make_damage_error
from stalign_pl.data.datamodule import STAlignData
from stalign_pl.data.trainer import get_data, get_loader
from stalign_pl.distributed import World, gather_objects

EVERY = 10
"""Batches between two looks of several ranks at each other: to read a sum off the device makes the host wait for it."""


class DamagedSamples(Callback):
    """Logs `train/bad_samples`, the distinct damaged samples that training has met since the process began.

    Every rank comes to the same list, and so raises at the same batch: none waits for another that has gone. A
    held-out slide with a damaged sample cannot be scored (its neighbours, labels and spots would not be those of the
    table) and stops the pass.

    Raises:
        ShardError: more of them than `data.bad_samples` allows, or one in a held-out slide; with the first ones.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], Damaged] = {}

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        self._look(trainer, trainer.train_dataloader, batch_idx, trainer.num_training_batches)
        pl_module.log("train/bad_samples", float(len(self._known)))

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: object,
        batch: object,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        total = trainer.num_sanity_val_batches if trainer.sanity_checking else trainer.num_val_batches
        self._look(trainer, trainer.val_dataloaders, batch_idx, total[dataloader_idx])

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: object,
        batch: object,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._look(trainer, trainer.test_dataloaders, batch_idx, trainer.num_test_batches[dataloader_idx])

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: object,
        batch: object,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._look(trainer, trainer.predict_dataloaders, batch_idx, trainer.num_predict_batches[dataloader_idx])

    def _look(self, trainer: Trainer, loader: object, batch: int, batches: float) -> None:
        """Alone: after every batch. With others: after every `EVERY` and after the last, on every rank alike."""
        if trainer.world_size > 1 and batch % EVERY and batch + 1 < batches:
            return
        new = {key: sample for key, sample in get_loader(loader).damaged.items() if key not in self._known}
        for sample in _gather(trainer, list(new.values())):
            if sample.key not in self._known:
                self._known[sample.key] = sample
                if trainer.is_global_zero:
                    print(f"left out a damaged sample: {sample}", flush=True)
        self._stop_at_limit(get_data(trainer))

    def _stop_at_limit(self, data: STAlignData) -> None:
        held_out = [sample for sample in self._known.values() if sample.slide not in data.train_slides]
        if held_out:
            raise make_damage_error(held_out, "and a held-out slide is scored whole or not at all")
        if len(self._known) > data.allowed_damage:
            spots = sum(len(slide) for slide in data.train_slides.values())
            allows = f"data.bad_samples allows {data.allowed_damage:,} of {spots:,}"
            raise make_damage_error(list(self._known.values()), allows)


def _gather(trainer: Trainer, own: list[Damaged]) -> list[Damaged]:
    """Every rank's, in rank order, on every rank; one small sum where there is nothing new."""
    world = World.current()
    if world.size > 1 and not world.sum_over_ranks(torch.tensor(len(own), device=trainer.strategy.root_device)).item():
        return []
    return [sample for part in gather_objects(own, world) for sample in part]
