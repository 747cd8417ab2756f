"""GenePredictionCallback: image -> gene expression on held-out patients, beside what simple predictors reach."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stalign_pl.callbacks.collected import Table
from stalign_pl.callbacks.evaluation_pass import EvaluationCallback, SlideReport
from stalign_pl.callbacks.shared_genes import find_shared_genes, list_fitting_spots, read_fitting_counts
from stalign_pl.data.datamodule import STAlignData
from stalign_pl.data.shards.section import read_section
from stalign_pl.data.shards.shard_set import SlideShard
from stalign_pl.errors import ConfigError
from stalign_pl.evaluation.canvas import save_figure
from stalign_pl.evaluation.expression import (
    GeneScores,
    normalise_cp10k,
    predict_constant,
    score_genes,
)
from stalign_pl.evaluation.figures import draw_expression
from stalign_pl.evaluation.oracle import read_oracle
from stalign_pl.evaluation.results import Row
from stalign_pl.evaluation.ridge import fit_ridge

FIGURE_GENES = 4


@dataclass(frozen=True)
class Targets:
    """What is predicted on one slide.

    Attributes:
        genes: [T] gene indices.
        names: [T] gene names.
        fit_slides: training slides that the ridge is fitted on.
        fit_spots: of each of them, the spots.
        fit: [F, T] of these spots, log1p(CP10K over the panel that these slides and this one share).
        measured: [N, T] of the slide's spots, in the same units.
    """

    genes: np.ndarray
    names: list[str]
    fit_slides: tuple[int, ...]
    fit_spots: tuple[np.ndarray, ...]
    fit: np.ndarray
    measured: np.ndarray


class GenePredictionCallback(EvaluationCallback):
    """MSE and Pearson r of a ridge from the image embeddings to log1p(CP10K), for every held-out slide.

    The ridge is fitted on training spots alone, closed form; the genes are listed from training slides alone: the
    first of the vocabulary's ranking (`rank_genes`), or those named.

    Args:
        genes: target genes by symbol or Ensembl id; null takes the first `n_genes` of the ranking.
        n_genes: how many.
        coverage: a training slide joins the fit if it measured at least this share of the held-out slide's
            vocabulary genes.
        oracle: folder of a simulated cohort, for the oracle's row; null has none.

    Raises:
        ConfigError: fewer than one gene, or a coverage outside [0, 1].
    """

    trained_fields = ("image",)
    untrained_fields = ("image", "spot_features", "niche_features")
    logged = {"mse": "gene_mse", "pearson": "gene_pearson"}
    primary = "ridge"

    def __init__(
        self, genes: list[str] | None = None, n_genes: int = 50, coverage: float = 0.9, oracle: str | None = None
    ) -> None:
        super().__init__()
        if n_genes < 1 or genes == []:
            raise ConfigError(f"gene_prediction: n_genes is {n_genes} and genes is {genes}; at least 1 gene is wanted")
        if not 0 <= coverage <= 1:
            raise ConfigError(f"gene_prediction.coverage is {coverage}; 0 to 1")
        self.genes, self.n_genes, self.coverage, self.oracle = genes, n_genes, coverage, oracle
        self._targets: dict[int, Targets | None] = {}

    def report(
        self, data: STAlignData, slide: int, trained: Table | None, untrained: Table | None, figures: Path, when: str
    ) -> SlideReport:
        shard = data.shard_set.slides[slide]
        if slide not in self._targets:
            self._targets[slide] = find_targets(data, shard, self.genes, self.n_genes, self.coverage)
        targets = self._targets[slide]
        if targets is None:
            return SlideReport(notes=[f"{shard.record.name}: no training slide measured its genes; no gene prediction"])
        report = SlideReport()
        for name, prediction in self._predict(data, slide, targets, trained, untrained):
            scores = score_genes(prediction, targets.measured, targets.names, shard.record.name)
            readout = "mean" if name == "constant" else "formula" if name == "oracle" else "ridge"
            for metric, value in (("mse", scores.mse), ("pearson", scores.pearson)):
                split = data.split_of(slide)
                report.rows.append(
                    Row("gene_prediction", split, shard.record.name, name, readout, metric, value, float("nan"), 1)
                )
            if name == "stalign":
                report.figures.append(
                    self._draw(shard, targets, prediction, scores, figures, when, data.division.marks)
                )
        return report

    def _predict(
        self, data: STAlignData, slide: int, targets: Targets, trained: Table | None, untrained: Table | None
    ) -> Iterator[tuple[str, np.ndarray]]:
        """(row name, [N, T] or [T]) of the model and of everything beside it."""
        if trained is not None and trained.has("image"):
            yield "stalign", predict_by_ridge(trained, ("image",), slide, targets)
        if untrained is not None:
            if untrained.has("image"):
                yield "untrained", predict_by_ridge(untrained, ("image",), slide, targets)
                seen = tuple(name for name in ("spot_features", "niche_features") if untrained.has(name))
                yield "image", predict_by_ridge(untrained, seen, slide, targets)
            yield "constant", predict_constant(targets.fit)
            if self.oracle is not None:
                shard = data.shard_set.slides[slide]
                barcodes = read_section(shard).barcodes
                oracle = read_oracle(self.oracle, shard.record.name, barcodes, targets.genes, data.shard_set.genes)
                yield "oracle", oracle.expected

    @staticmethod
    def _draw(
        shard: SlideShard,
        targets: Targets,
        prediction: np.ndarray,
        scores: GeneScores,
        figures: Path,
        when: str,
        marks: Sequence[str],
    ) -> Path:
        section = read_section(shard)
        shown = slice(0, FIGURE_GENES)  # the first of the list made from training spots: never the best predicted
        figure = draw_expression(
            section.xy_um,
            targets.measured[:, shown],
            prediction[:, shown],
            targets.names[shown],
            title=f"{section.name}: expression from the image embeddings, {when}",
            scores=scores.gene_pearson[shown],
            note="; ".join(marks),
        )
        path = figures / f"{shard.record.stem}-genes-{when}.png"
        save_figure(figure, path)
        return path


def find_targets(
    data: STAlignData, shard: SlideShard, genes: list[str] | None, n_genes: int, coverage: float
) -> Targets | None:
    """Decide what is predicted on a slide; None where no training slide measured enough of its genes.

    Raises:
        ConfigError: a named gene that the slide and the training slides do not share.
    """
    shared = find_shared_genes(data, shard, coverage)
    if shared is None:
        return None
    fit_slides, panel, table = shared.slides, shared.panel, data.shard_set.genes
    ranked = data.vocabulary.ranked
    chosen = ranked[np.isin(ranked, panel)][:n_genes]
    if genes is not None:
        indices = [table.lookup(name) for name in genes]
        absent = [name for name, index in zip(genes, indices, strict=True) if index not in panel]
        if absent:
            raise ConfigError(
                f"gene_prediction.genes: {', '.join(absent)} not measured by slide {shard.record.name!r} and its "
                f"training slides alike ({len(panel)} genes are)"
            )
        chosen = np.array(indices)
    fit = np.concatenate([normalise_cp10k(counts, panel, chosen) for counts in read_fitting_counts(data, fit_slides)])
    measured = normalise_cp10k(shard.csr(len(table)), panel, chosen)
    fit_spots = tuple(list_fitting_spots(data, number) for number in fit_slides)
    return Targets(chosen, [table.names[gene] for gene in chosen], fit_slides, fit_spots, fit, measured)


def predict_by_ridge(table: Table, names: tuple[str, ...], slide: int, targets: Targets) -> np.ndarray:
    """Fit on the training slides' rows of a pass, predict a held-out slide's: [N, T].

    Damaged samples have no row in the pass; their counts stay out of the fit.
    """
    whole = [
        np.isin(spots, table.spots(number)) for number, spots in zip(targets.fit_slides, targets.fit_spots, strict=True)
    ]
    features = [np.concatenate([table.of(number, name) for number in targets.fit_slides]) for name in names]
    held_out = [table.of(slide, name) for name in names]
    fitted = fit_ridge(np.concatenate(features, axis=1), targets.fit[np.concatenate(whole)])
    return fitted.predict(np.concatenate(held_out, axis=1))
