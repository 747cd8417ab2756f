"""The LightningDataModule: patients' lists -> slides, vocabulary, plans and loaders."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Literal

import numpy as np
from lightning import LightningDataModule

from stalign_pl.data.augmentation import Augmentation
from stalign_pl.data.batch import SpotBatch
from stalign_pl.data.loader import BatchLoader
from stalign_pl.data.niche import NicheConfig
from stalign_pl.data.plan import Composition, reading_plan, training_plan
from stalign_pl.data.reader import BatchReader, no_draws
from stalign_pl.data.shards import ShardSet, SlideShard
from stalign_pl.data.transform import BatchTransform, ModelInputs
from stalign_pl.data.vocabulary import GeneSelection, Vocabulary, build_vocabulary
from stalign_pl.errors import ConfigError


class STAlignData(LightningDataModule):
    """A shard set split by patient.

    Args:
        shards: folder of the shard set.
        spot_size, niche_size: sides of the pictures that the encoders take, px.
        val_patients: held out, looked at every epoch (early stopping, best checkpoint).
        test_patients: held out, looked at by `test` alone.
        train_patients: null takes everybody else.
        composition: slides and spots of a global batch.
        niche: which neighbours make a niche.
        genes: how the vocabulary is chosen from the training slides.
        augmentation: of training pictures.
        stain: "slide" moves every slide's colours to the training slides' mean and sd, "none" leaves them.
        fit_spots: at most this many training spots are embedded for the gene read-out, each epoch.
        seed: of the plan and of augmentation.
        threads: decoding threads a process.

    Raises:
        ConfigError: lists that overlap or are empty where they must not be.
        ShardError: a patient whom the set does not hold.
    """

    def __init__(
        self,
        shards: str,
        spot_size: int = 224,
        niche_size: int = 224,
        val_patients: list[str] | None = None,
        test_patients: list[str] | None = None,
        train_patients: list[str] | None = None,
        composition: Composition = Composition(),  # noqa: B008 (frozen)
        niche: NicheConfig = NicheConfig(),  # noqa: B008
        genes: GeneSelection = GeneSelection(),  # noqa: B008
        augmentation: Augmentation = Augmentation(),  # noqa: B008
        stain: str = "slide",
        fit_spots: int = 20_000,
        seed: int = 0,
        threads: int = 2,
    ) -> None:
        super().__init__()
        self.shard_set = ShardSet(shards)
        self.composition, self.niche, self.augmentation = composition, niche, augmentation
        self.selection, self.stain, self.fit_spots = genes, stain, fit_spots
        self.spot_size, self.niche_size = spot_size, niche_size
        self.seed, self.threads = seed, threads
        for name, size in (("spot_size", spot_size), ("niche_size", niche_size)):
            if size < 1:
                raise ConfigError(f"data.{name} is {size}; a side in px, at least 1, is wanted")
        if stain not in ("slide", "none"):
            raise ConfigError(f"data.stain is {stain!r}; known: slide, none")
        self.val_slides, self.test_slides, self.train_slides = self._split(
            val_patients or [], test_patients or [], train_patients
        )
        self._held_out: dict[int, SlideShard] = {}

    def _split(self, val: list[str], test: list[str], train: list[str] | None) -> list[dict[int, SlideShard]]:
        everybody = {slide.record.patient for slide in self.shard_set.slides.values()}
        if train is None:
            train = sorted(everybody - set(val) - set(test))
        lists = {"data.val_patients": val, "data.test_patients": test, "data.train_patients": train}
        names = list(lists)
        for number, one in enumerate(names):
            for other in names[number + 1 :]:
                both = sorted(set(lists[one]) & set(lists[other]))
                if both:
                    raise ConfigError(f"patient {', '.join(both)} is in {one} and in {other}; lists must be disjoint")
        if not train:
            raise ConfigError(f"no patient is left to train on: {self.shard_set.folder} holds {sorted(everybody)}")
        return [self.shard_set.of_patients(patients, name) for name, patients in lists.items()]

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """Genes and their statistics, from the training slides alone."""
        return build_vocabulary(list(self.train_slides.values()), self.shard_set.genes, self.selection)

    @property
    def n_genes(self) -> int:
        return len(self.vocabulary)

    @cached_property
    def transform(self) -> BatchTransform:
        slides = {**self.train_slides, **self.val_slides, **self.test_slides}
        return BatchTransform(
            slides,
            self.vocabulary,
            genes=len(self.shard_set.genes),
            spot_size=self.spot_size,
            niche_size=self.niche_size,
            stain=self.stain,
            reference=sorted(self.train_slides),
            tables=len(self.shard_set.slides),
        )

    @cached_property
    def fit_ranks(self) -> dict[int, np.ndarray]:
        """Places in the tar order of the training spots that the gene read-out is fitted on, by slide.

        The same share of every training slide: the first of its seeded random order.
        """
        total = sum(len(slide) for slide in self.train_slides.values())
        share = min(1.0, self.fit_spots / total)
        return {number: np.arange(int(len(slide) * share)) for number, slide in self.train_slides.items()}

    @property
    def held_out(self) -> dict[int, SlideShard]:
        """The slides that the current pass evaluates."""
        return self._held_out

    def split_of(self, number: int) -> Literal["val", "test"]:
        """Whether a held-out slide's patient is one that choices were made on."""
        return "val" if number in self.val_slides else "test"

    @property
    def batches_per_epoch(self) -> int:
        """Global batches of a training epoch."""
        return -(-sum(len(slide) for slide in self.train_slides.values()) // self.composition.batch)

    def train_dataloader(self) -> BatchLoader:
        spots = {number: len(slide) for number, slide in self.train_slides.items()}
        reader = BatchReader(self.train_slides, self.niche, self.augmentation.draws(self.seed), self.threads)
        return self._loader(reader, lambda epoch: training_plan(spots, self.composition, self.seed, epoch))

    def val_dataloader(self) -> BatchLoader | list:
        return self._evaluation_loader(self.val_slides) if self.val_slides else []

    def test_dataloader(self) -> BatchLoader:
        """Validation and test patients in one pass, so that a table's two parts come from the same weights."""
        if not self.test_slides:
            raise ConfigError("data.test_patients is empty: there is nobody to test on")
        return self._evaluation_loader({**self.val_slides, **self.test_slides})

    def predict_dataloader(self) -> BatchLoader:
        return self.test_dataloader()

    def _evaluation_loader(self, held_out: dict[int, SlideShard]) -> BatchLoader:
        """One pass: the held-out slides whole, and the training spots that the gene read-out is fitted on."""
        self._held_out = held_out
        ranks = {number: np.arange(len(slide)) for number, slide in held_out.items()} | self.fit_ranks
        reader = BatchReader({**held_out, **self.train_slides}, self.niche, no_draws, self.threads)
        plan = reading_plan(ranks, self.composition.batch)
        return self._loader(reader, lambda epoch: plan)

    def _loader(self, reader: BatchReader, plan) -> BatchLoader:
        trainer = self.trainer
        pin = trainer.strategy.root_device.type == "cuda"
        return BatchLoader(reader, plan, trainer.global_rank, trainer.world_size, pin=pin)

    def on_after_batch_transfer(self, batch: SpotBatch, dataloader_idx: int) -> ModelInputs:
        """On the device: crop, resize, normalise; augment while training."""
        transform = self.transform.to(batch.slide.device)
        return transform(batch, self.augmentation if self.trainer.training else None)

    def state_dict(self) -> dict[str, Any]:
        return {"vocabulary": self.vocabulary.digest(), "n_genes": self.n_genes}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Refuse a checkpoint whose genes are not ours: the same weights would read other genes."""
        if state["vocabulary"] != self.vocabulary.digest():
            raise ConfigError(
                f"the checkpoint was trained on another vocabulary ({state['n_genes']} genes, digest "
                f"{state['vocabulary'][:12]}) than this configuration gives ({self.n_genes} genes, digest "
                f"{self.vocabulary.digest()[:12]}): use the same shards, training patients and data.genes"
            )
