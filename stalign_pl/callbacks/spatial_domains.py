"""SpatialDomainCallback: zero-shot spatial domains of held-out slides, beside what simple methods reach."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from lightning import LightningModule, Trainer

from stalign_pl.callbacks.collected import Table
from stalign_pl.callbacks.evaluation_pass import EvaluationCallback, SlideReport
from stalign_pl.callbacks.shared_genes import SharedGenes, find_shared_genes, read_fitting_counts, read_fitting_niches
from stalign_pl.data.datamodule import STAlignData
from stalign_pl.data.niches.config import NicheConfig
from stalign_pl.data.reading.niche_table import read_niche_sums
from stalign_pl.data.reading.reader import BatchReader
from stalign_pl.data.shards.section import Section, check_label, read_section
from stalign_pl.data.shards.shard_set import SlideShard
from stalign_pl.data.trainer import get_data
from stalign_pl.errors import ConfigError
from stalign_pl.evaluation.baselines import (
    MAX_ROUNDS,
    TrainingPCA,
    check_coordinates,
    compute_pixel_features,
    compute_smoothed_pca,
)
from stalign_pl.evaluation.canvas import save_figure
from stalign_pl.evaluation.domains import DomainResult, Readout, score_domains
from stalign_pl.evaluation.figures import draw_domains
from stalign_pl.evaluation.oracle import read_oracle
from stalign_pl.evaluation.results import Row, SplitName

PAIRS = ("spot_pair", "niche_pair")
"""Fields of `Evaluated` that are clustered in `test` alone, as `stalign_<field>`."""

TRAINED_ROWS = {"spot_fused": "stalign_spot", **{name: f"stalign_{name}" for name in PAIRS}, "niche": "stalign"}
"""Field of `Evaluated` -> the row of the trained model's embedding."""

TRAIN_PCA_ROUNDS = {"train_pca": 2, "train_niche_pca": 1}
"""Row -> most rounds of smoothing. A niche is a mean over neighbours as it is."""


class SpatialDomainCallback(EvaluationCallback):
    """ARI and NMI of clusters of the fused niche embedding, for every held-out slide that has labels.

    The primary figure, `val/ari`: fused niche embedding, standardise, PCA-30, tied Gaussian mixture, k = number of
    annotated classes, mean over seeds. The baselines share the read-out and are computed once.

    Args:
        label: label column; null takes a slide's first.
        seeds: seeds of the clustering.
        smooth: PCA of the slide's own counts is smoothed over the first ring 0 to this many rounds.
        coverage: a training slide joins the fit of `train_pca`, the PCA of the training spots, and `train_niche_pca`,
            that of their niches summed as the model's are, if it measured at least this share of the held-out slide's
            vocabulary genes; without any the slide has no such rows.
        secondary: further read-outs for the same rows, in `test` and before training.
        oracle: folder of a simulated cohort, for the oracle's row; null has none.

    Raises:
        ConfigError: no seed, more rounds of smoothing than are known, or a coverage outside [0, 1].
    """

    trained_fields = ("niche", "spot_fused")
    test_fields = PAIRS
    untrained_fields = ("niche", "niche_features")
    logged = {"ari": "ari", "nmi": "nmi"}
    primary = "tied_gmm"

    def __init__(
        self,
        label: str | None = None,
        seeds: int = 5,
        smooth: int = 6,
        coverage: float = 0.9,
        secondary: list[Readout] | None = None,
        oracle: str | None = None,
    ) -> None:
        super().__init__()
        if seeds < 1:
            raise ConfigError(f"spatial_domains.seeds is {seeds}; at least 1")
        if not 0 <= smooth <= MAX_ROUNDS:
            raise ConfigError(f"spatial_domains.smooth is {smooth}; 0 to {MAX_ROUNDS} rounds")
        if not 0 <= coverage <= 1:
            raise ConfigError(f"spatial_domains.coverage is {coverage}; 0 to 1")
        self.label, self.seeds, self.smooth, self.oracle = label, seeds, smooth, oracle
        self.coverage = coverage
        self.secondary: list[Readout] = ["kmeans"] if secondary is None else secondary
        self._train_pca: tuple[SharedGenes, dict[str, TrainingPCA]] | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Raises ShardError where a slide that will be scored has labels and none of that name."""
        data = get_data(trainer)
        held_out = data.val_slides if stage in ("fit", "validate") else {**data.val_slides, **data.test_slides}
        for slide in held_out.values():
            check_label(slide.record, self.label)

    def report(
        self, data: STAlignData, slide: int, trained: Table | None, untrained: Table | None, figures: Path, when: str
    ) -> SlideReport:
        shard, split = data.shard_set.slides[slide], data.split_of(slide)
        section = read_section(shard, self.label)
        labels = section.labels
        report = SlideReport()
        if labels is None:
            return report
        column = self.label or "first label column"
        for row, features, readout in self._list_embeddings(data, shard, section, trained, untrained):
            result = score_domains(features, labels, None, self.seeds, readout, section.name, column)
            report.rows += _make_rows(split, section.name, row, readout, result)
            if row == "stalign" and not report.figures:
                picture = self._draw(section, labels, shard, result, figures, when, data.division.marks)
                report.figures.append(picture)
        return report

    def _list_embeddings(
        self, data: STAlignData, shard: SlideShard, section: Section, trained: Table | None, untrained: Table | None
    ) -> Iterator[tuple[str, np.ndarray, Readout]]:
        """(row name, [N, D], read-out) of the model, first by the primary read-out, and of all beside it."""
        slide = shard.record.number
        for field, row in TRAINED_ROWS.items():
            if trained is not None and trained.has(field):
                yield row, trained.of(slide, field), "tied_gmm"
        if untrained is None:
            return
        for row, features in self._compute_baselines(data, shard, section, untrained):
            yield row, features, "tied_gmm"
            for readout in self.secondary:
                yield row, features, readout
        if trained is not None and trained.has("niche"):
            for readout in self.secondary:
                yield "stalign", trained.of(slide, "niche"), readout

    def _compute_baselines(
        self, data: STAlignData, shard: SlideShard, section: Section, untrained: Table
    ) -> Iterator[tuple[str, np.ndarray]]:
        """(row name, [N, D]) of everything that stands beside the model."""
        for name, field in (("untrained", "niche"), ("image", "niche_features")):
            if untrained.has(field):
                yield name, untrained.of(shard.record.number, field)
        counts = shard.csr(len(data.shard_set.genes))
        for rounds in range(self.smooth + 1):
            yield _name_row("pca", rounds), compute_smoothed_pca(counts, section.neighbours, rounds)
        fitted = self._fit(data, shard)
        if fitted:
            panel = fitted["train_niche_pca"].panel
            niches = read_niche_sums(shard, data.niche, len(data.shard_set.genes), panel)
            read = {"train_pca": counts, "train_niche_pca": niches}
            for name, pca in fitted.items():
                for rounds in range(TRAIN_PCA_ROUNDS[name] + 1):
                    yield _name_row(name, rounds), pca.scores(read[name], section.neighbours, rounds)
        yield "pixels", compute_pixel_features(read_niche_pictures(shard))
        yield "coordinates", check_coordinates(section.xy_um)
        if self.oracle is not None:
            none = np.zeros(0, np.int64)
            yield (
                "oracle",
                read_oracle(self.oracle, section.name, section.barcodes, none, data.shard_set.genes).noise_free,
            )

    def _fit(self, data: STAlignData, shard: SlideShard) -> dict[str, TrainingPCA]:
        """Fitted once for all slides that share panel and training slides; the genes are the vocabulary's."""
        shared = find_shared_genes(data, shard, self.coverage)
        if shared is None:
            return {}
        if self._train_pca is None or not self._train_pca[0].same(shared):
            panel = np.intersect1d(shared.panel, data.vocabulary.genes)
            spots = TrainingPCA.fit(read_fitting_counts(data, shared.slides), panel)
            niches = TrainingPCA.fit(read_fitting_niches(data, shared.slides, panel), panel, spots.target_sum)
            self._train_pca = shared, {"train_pca": spots, "train_niche_pca": niches}
        return self._train_pca[1]

    @staticmethod
    def _draw(
        section: Section,
        labels: np.ndarray,
        shard: SlideShard,
        result: DomainResult,
        figures: Path,
        when: str,
        marks: Sequence[str],
    ) -> Path:
        figure = draw_domains(
            section.xy_um,
            labels,
            result.predicted,
            section.thumbnail,
            section.extent_um,
            title=f"{section.name}: domains from the fused niche embedding, {when}",
            ari=result.mean,
            note="; ".join(marks),
        )
        path = figures / f"{shard.record.stem}-domains-{when}.png"
        save_figure(figure, path)
        return path


def read_niche_pictures(shard: SlideShard) -> np.ndarray:
    """uint8 [N, side, side, 3]: the stored niche pictures of a slide, in spot order."""
    reader = BatchReader({shard.record.number: shard}, NicheConfig(k=0), threads=2, decoded=("niche",))
    ranks = np.arange(len(shard))
    batch = reader.read(np.full(len(shard), shard.record.number), ranks, epoch=0)
    reader.close()
    pictures = np.empty_like(batch.niche_image.numpy())
    pictures[shard.spot_of_rank] = batch.niche_image.numpy()
    return pictures


def _name_row(name: str, rounds: int) -> str:
    """The row's name after that many rounds of smoothing."""
    return f"{name}_smooth{rounds}" if rounds else name


def _make_rows(split: SplitName, slide: str, name: str, readout: Readout, result: DomainResult) -> list[Row]:
    seeds = len(result.ari)
    return [
        Row("spatial_domains", split, slide, name, readout, "ari", result.mean, result.sd, seeds),
        Row("spatial_domains", split, slide, name, readout, "nmi", result.nmi_mean, result.nmi_sd, seeds),
    ]
