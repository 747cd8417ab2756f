"""The LightningDataModule: a division by patient -> slides, vocabulary, plans and loaders."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from lightning import LightningDataModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from stalign_pl.batch.damage import count_allowed
from stalign_pl.batch.features import Fingerprint
from stalign_pl.batch.gene_panel import GenePanel
from stalign_pl.batch.inputs import StepInputs
from stalign_pl.batch.spot_batch import SpotBatch
from stalign_pl.data.checkpoint_state import hash_content, record_data, refuse_other_data
from stalign_pl.data.epoch.clusters import ClusterTable, append_pair_draws, read_clusters
from stalign_pl.data.epoch.division import divide
from stalign_pl.data.epoch.plan import Composition, Plan, plan_reading, plan_training, share_ranks
from stalign_pl.data.features.cache import FeatureCache, FeatureRows
from stalign_pl.data.features.settings import FeatureSettings
from stalign_pl.data.genes.selection import GeneSelection
from stalign_pl.data.genes.vocabulary import Vocabulary, build_vocabulary, count_measured
from stalign_pl.data.niches.config import NicheConfig
from stalign_pl.data.pictures.augmentation import Augmentation
from stalign_pl.data.pictures.resize import Interpolation, PictureForm
from stalign_pl.data.reading.loader import BatchLoader
from stalign_pl.data.reading.reader import BatchReader
from stalign_pl.data.shards.shard_set import SlideShard
from stalign_pl.data.shards.staging import Staging, open_shards
from stalign_pl.data.slide_tables import SlideTables, read_slide_tables
from stalign_pl.data.transform import BatchTransform
from stalign_pl.draws import Draws, draw_nothing
from stalign_pl.errors import ConfigError


class STAlignData(LightningDataModule):
    """A shard set split by patient.

    Args:
        shards: folder of the shard set; or a remote one's http(s) URL, or a `pipe:` command that prints the file `{}`,
            such as `pipe:aws s3 cp s3://bucket/set/{} -`; these need `stage_to`.
        spot_size: side of the spots' pictures as the encoder takes them, px.
        niche_size: side of the niches' pictures as the encoder takes them, px.
        spot_interpolation: how stored pictures of spots are resized to that side, antialiased: bilinear or bicubic, as
            the weights of a pretrained encoder were trained with.
        niche_interpolation: likewise, of niches.
        val_patients: held out, evaluated every epoch (early stopping, best checkpoint).
        test_patients: held out, evaluated by `test` alone.
        train_patients: null takes everybody else.
        split: a file of `python -m data_prep splits` in place of the three lists.
        fold: its fold; null where it has only one.
        composition: slides and spots of a global batch.
        niche: which neighbours make a niche.
        genes: how the vocabulary is chosen from the training slides.
        augmentation: of training pictures.
        stain: "slide" moves every slide's colours to the training slides' mean and sd, "none" leaves them.
        features: folder of `python -m stalign_pl cache-features`: outputs of frozen encoders that are read in place of
            the encoders' inputs; null runs the encoders in each step.
        clusters: table of `python -m stalign_pl clusters`; the paired loss draws its negatives by it.
        fit_spots: at most this many training spots are embedded for the gene read-out, each epoch.
        seed: of the plan and of augmentation; null takes seed_everything's.
        threads: decoding threads of each process.
        bad_samples: damaged samples beyond which training stops: a number, or a share of the training spots (0.0 to
            1.0); null is 0.1 % of them, at most 1,000. Held-out slides must be whole.
        verify: compare every sample read with its checksum.
        stage_to: a folder on the node's own disk that the slides are copied to before reading; null reads them where
            they are. One process a node copies, into a folder named by the set; a remote set is fetched there.
        stage_keep: leave the copy for the next run; false removes it when the last process that reads it is done.

    Raises:
        ConfigError, ShardError: see `divide`, `read_clusters` and `ClusterTable.refuse_others`.
    """

    def __init__(
        self,
        shards: str,
        spot_size: int = 224,
        niche_size: int = 224,
        val_patients: list[str] | None = None,
        test_patients: list[str] | None = None,
        train_patients: list[str] | None = None,
        split: str | None = None,
        fold: str | None = None,
        composition: Composition = Composition(),  # noqa: B008 (frozen)
        niche: NicheConfig = NicheConfig(),  # noqa: B008
        genes: GeneSelection = GeneSelection(),  # noqa: B008
        augmentation: Augmentation = Augmentation(),  # noqa: B008
        stain: str = "slide",
        fit_spots: int = 20_000,
        seed: int | None = None,
        threads: int = 2,
        bad_samples: int | float | None = None,
        verify: bool = True,
        stage_to: str | None = None,
        stage_keep: bool = True,
        clusters: str | None = None,
        spot_interpolation: Interpolation = "bilinear",
        niche_interpolation: Interpolation = "bilinear",
        features: str | None = None,
    ) -> None:
        super().__init__()
        self.staging = None if stage_to is None else Staging(Path(stage_to), stage_keep)
        self.shard_set = open_shards(shards, self.staging)
        self.composition, self.niche, self.augmentation = composition, niche, augmentation
        self.selection, self.stain, self.fit_spots = genes, stain, fit_spots
        self.pictures = {
            "spot": PictureForm(spot_size, spot_interpolation),
            "niche": PictureForm(niche_size, niche_interpolation),
        }
        self.seed, self.threads, self.verify = seed or 0, threads, verify
        for name, value, least in (("seed", self.seed, 0), ("threads", threads, 1)):
            if value < least:
                raise ConfigError(f"data.{name} is {value}; at least {least} is wanted")
        for name, size in (("spot_size", spot_size), ("niche_size", niche_size)):
            if size < 1:
                raise ConfigError(f"data.{name} is {size}; a side in px, at least 1, is wanted")
        if stain not in ("slide", "none"):
            raise ConfigError(f"data.stain is {stain!r}; known: slide, none")
        self.division = divide(self.shard_set, split, fold, val_patients, test_patients, train_patients)
        self.train_slides, self.val_slides = self.division.train, self.division.val
        self.test_slides = self.division.test
        niche.excluded_width([slide.record.ring_members for slide in self.used_slides.values()])  # refuses k, rings
        self.allowed_damage = count_allowed(bad_samples, sum(len(slide) for slide in self.train_slides.values()))
        self.clusters: ClusterTable | None = None
        if clusters is not None:
            self.clusters = read_clusters(Path(clusters))
            self.clusters.refuse_others(self.train_slides.values(), Path(clusters), self.shard_set.folder)
        self.features = None if features is None else Path(features)
        self.feature_cache: FeatureCache | None = None
        self.held_out: dict[int, SlideShard] = {}  # the slides that the current pass evaluates
        self._plan: tuple[int, Plan] | None = None

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """Genes and their statistics, from the training slides alone."""
        return build_vocabulary(list(self.train_slides.values()), self.shard_set.genes, self.selection)

    @cached_property
    def measured_genes(self) -> dict[str, int]:
        """Slide name -> number of the vocabulary's genes that it measured, of slides that did not measure all."""
        return count_measured(self.vocabulary, self.used_slides.values())

    @cached_property
    def content(self) -> str:
        """Hash of what the model is trained on, see `hash_content`."""
        return hash_content(self.train_slides.values(), self.clusters, self.views)

    @property
    def views(self) -> dict[str, int]:
        """Stream -> cached views, of the streams that read these in place of augmentation."""
        return {} if self.feature_cache is None else dict(self.feature_cache.instead)

    @property
    def used_slides(self) -> dict[int, SlideShard]:
        """All slides of the three parts."""
        return {**self.train_slides, **self.val_slides, **self.test_slides}

    @property
    def _train_spots(self) -> dict[int, int]:
        """Training slide -> its number of spots."""
        return {number: len(slide) for number, slide in self.train_slides.items()}

    @property
    def gene_panel(self) -> GenePanel:
        """Names and statistics of the genes, which a model is built for."""
        return self.vocabulary.panel(self.shard_set.genes)

    @cached_property
    def slide_tables(self) -> SlideTables:
        """Genes, scales, colours and clusters of the slides."""
        return read_slide_tables(
            self.used_slides,
            self.vocabulary,
            genes=len(self.shard_set.genes),
            tables=len(self.shard_set.slides),
            reference=sorted(self.train_slides),
            by_slide_colour=self.stain == "slide",
            clusters={} if self.clusters is None else {n: self.clusters.of(s) for n, s in self.train_slides.items()},
        )

    @cached_property
    def transform(self) -> BatchTransform:
        """The device's half of reading."""
        return BatchTransform(self.slide_tables, self.pictures["spot"], self.pictures["niche"])

    def feature_settings(self, encoders: Mapping[str, Fingerprint]) -> FeatureSettings:
        """Everything that the outputs of frozen encoders depend on.

        Args:
            encoders: stream -> its encoder.
        """
        genes = self.vocabulary.digest()
        return FeatureSettings(encoders, self.slide_tables, self.pictures, genes, self.niche, self.augmentation)

    def open_features(self, encoders: Mapping[str, Fingerprint]) -> FeatureCache:
        """Open the folder `features`: loaders that are made from now on read it.

        Args:
            encoders: the model's frozen encoders by stream.

        Raises:
            ConfigError: there is no folder; or see `FeatureCache`.
        """
        if self.features is None:
            raise ConfigError("data.features is null; a folder of cached features is wanted")
        settings, slides = self.feature_settings(encoders), self._read_slides()
        self.feature_cache = FeatureCache(self.features, settings, slides, self.train_slides)
        return self.feature_cache

    @cached_property
    def fit_ranks(self) -> dict[int, np.ndarray]:
        """Slide -> places in the tar order of the training spots that the gene read-out is fitted on."""
        return share_ranks(self._train_spots, self.fit_spots)

    def split_of(self, number: int) -> Literal["val", "test"]:
        """The part of the division that a held-out slide, given by number, belongs to."""
        return "val" if number in self.val_slides else "test"

    @property
    def batches_per_epoch(self) -> int:
        """Global batches of a training epoch."""
        return -(-sum(self._train_spots.values()) // self.composition.batch)

    def prepare_data(self) -> None:
        """Copy slides to the node's own disk; Lightning calls this in one process of each node, and the others wait."""
        if self.staging is not None:
            self.staging.copy(self.shard_set, self._read_slides())

    def setup(self, stage: str) -> None:
        if self.staging is not None:
            self.staging.use(self.shard_set, self._read_slides())

    def teardown(self, stage: str) -> None:
        if self.staging is not None:
            self.staging.release()

    @property
    def _attached_trainer(self) -> Trainer:
        """The Trainer that runs this data; RuntimeError where there is none."""
        if self.trainer is None:
            raise RuntimeError("the data belongs to no Trainer: give it as Trainer.fit(model, datamodule=data)")
        return self.trainer

    def _read_slides(self) -> dict[int, SlideShard]:
        """The slides that the Trainer's present command reads."""
        fit = self._attached_trainer.state.fn in (TrainerFn.FITTING, TrainerFn.VALIDATING)
        return {**self.train_slides, **self.val_slides} if fit else self.used_slides

    def train_dataloader(self) -> BatchLoader:
        draws = self.augmentation.draws(self.seed)
        if self.clusters is not None:
            draws = append_pair_draws(draws, self.seed, self.clusters.clusters)
        return self._loader(self.train_slides, draws, self.training_plan, seed=self.seed)

    def training_plan(self, epoch: int) -> Plan:
        """The order of a training epoch; the last one is kept."""
        if self._plan is None or self._plan[0] != epoch:
            self._plan = epoch, plan_training(self._train_spots, self.composition, self.seed, epoch)
        return self._plan[1]

    def val_dataloader(self) -> BatchLoader | list[BatchLoader]:
        return self._evaluation_loader(self.val_slides) if self.val_slides else []

    def test_dataloader(self) -> BatchLoader:
        """Validation and test patients in one pass, so that a table's two parts come from the same weights."""
        if not self.test_slides:
            empty = f"the test part of {self.division.split}" if self.division.split else "data.test_patients"
            raise ConfigError(f"{empty} is empty: there is nobody to test on")
        return self._evaluation_loader({**self.val_slides, **self.test_slides})

    def predict_dataloader(self) -> BatchLoader:
        return self.test_dataloader()

    def _evaluation_loader(self, held_out: dict[int, SlideShard]) -> BatchLoader:
        """One pass: the held-out slides whole, and the training spots that the gene read-out is fitted on."""
        self.held_out = held_out
        ranks = {number: np.arange(len(slide)) for number, slide in held_out.items()} | self.fit_ranks
        plan = plan_reading(ranks, self.composition.batch)
        return self._loader({**held_out, **self.train_slides}, draw_nothing, lambda epoch: plan)

    def _loader(
        self, slides: dict[int, SlideShard], draws: Draws, plan: Callable[[int], Plan], seed: int | None = None
    ) -> BatchLoader:
        """Make a loader over this process's rows; `seed` is that of a pass with augmentation."""
        trainer = self._attached_trainer
        pin = trainer.strategy.root_device.type == "cuda"
        features = None if self.feature_cache is None else FeatureRows(self.feature_cache, seed, self.verify)
        reader = BatchReader(slides, self.niche, draws, self.threads, self.verify, pin, features)
        return BatchLoader(reader, plan, trainer.global_rank, trainer.world_size, pin=pin)

    def on_after_batch_transfer(self, batch: SpotBatch, dataloader_idx: int) -> StepInputs:
        """Make the input of a step on the batch's device, augmented while training."""
        transform = self.transform.to(batch.slide.device)
        trainer = self._attached_trainer
        if not trainer.training:
            return transform(batch)
        if trainer.train_dataloader is None:
            raise RuntimeError("the Trainer trains without a loader, so there is no epoch to augment for")
        return transform(batch, self.augmentation, self.seed, trainer.train_dataloader.epoch)

    def state_dict(self) -> dict[str, Any]:
        """What the model is trained on, for checkpoints."""
        return record_data(self.vocabulary, self.train_slides.values(), self.content, self.views)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Refuse a checkpoint of other data, see `refuse_other_data`."""
        refuse_other_data(state_dict, self.vocabulary, (*self.val_slides.values(), *self.test_slides.values()))
