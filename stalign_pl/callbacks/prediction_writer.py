"""PredictionWriter: `predict` -> one .h5ad a slide, the shard set's own with the model's view added."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from lightning import Callback, LightningModule, Trainer

from stalign_pl.callbacks.collected import Collected, Table
from stalign_pl.callbacks.gene_prediction import find_targets, predict_by_ridge
from stalign_pl.data.datamodule import STAlignData
from stalign_pl.data.shards.section import read_section
from stalign_pl.data.shards.shard_set import SlideShard
from stalign_pl.data.trainer import get_data
from stalign_pl.errors import ConfigError
from stalign_pl.evaluation.domains import DomainResult, score_domains
from stalign_pl.files import replace_file
from stalign_pl.runs.results import describe_provenance
from stalign_pl.training.evaluation_step import EvaluatedBatch


class PredictionWriter(Callback):
    """Writes `<run>/predictions/<slide>.h5ad` for every held-out slide.

    obsm X_stalign_spot, X_stalign_niche: fused embeddings. layers stalign_predicted: log1p(CP10K) predicted from the
    image by a ridge fitted on the training spots, NaN for genes that no training slide shares. obs stalign_domain:
    clusters of the niche embedding. uns stalign: where all this came from. What needs an embedding that the model has
    not is left out, or NaN.

    Args:
        domains: number of domains; null takes the slide's number of annotated classes, and 7 without annotation.
        label: label column that gives that number; null takes a slide's first.
        coverage: as in `gene_prediction`: a training slide joins the fit if it measured at least this share of the
            held-out slide's vocabulary genes.
    """

    def __init__(self, domains: int | None = None, label: str | None = None, coverage: float = 0.9) -> None:
        if domains is not None and domains < 2:
            raise ConfigError(f"predictions.domains is {domains}; at least 2 are needed")
        self.domains, self.label, self.coverage = domains, label, coverage

    def on_predict_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._collected = Collected(("niche", "spot_fused", "image")).to(pl_module.device)

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: object,
        batch: object,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if not isinstance(outputs, EvaluatedBatch):
            raise TypeError(f"the prediction step gave {type(outputs).__name__}; Evaluated is wanted")
        self._collected.update(outputs)

    def on_predict_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        table = self._collected.gather()
        if table is None:
            raise ConfigError("predict read no batch, so there is nothing to write; see trainer.limit_predict_batches")
        folder = Path(trainer.default_root_dir) / "predictions"
        folder.mkdir(parents=True, exist_ok=True)
        data = get_data(trainer)
        source = describe_provenance(data, Path(trainer.default_root_dir)) | {"checkpoint": str(trainer.ckpt_path)}
        # As text: HDF5 has no name for a slide's with a slash, and no empty list of texts.
        source = {key: value if isinstance(value, str) else json.dumps(value) for key, value in source.items()}
        for slide in sorted(data.held_out)[trainer.global_rank :: trainer.world_size]:
            path = folder / data.shard_set.slides[slide].record.h5ad
            self._write(path, data, data.shard_set.slides[slide], table, source)
            print(f"wrote {path}")

    def _write(self, path: Path, data: STAlignData, shard: SlideShard, table: Table, source: dict[str, str]) -> None:
        import anndata

        slide = shard.record.number
        section = anndata.read_h5ad(shard.folder / shard.record.h5ad)
        found: dict[str, int] = {}
        for key, name in (("X_stalign_spot", "spot_fused"), ("X_stalign_niche", "niche")):
            if table.has(name):
                section.obsm[key] = table.of(slide, name)
        if table.has("niche"):
            domains = self._find_domains(table.of(slide, "niche"), shard)
            section.obs["stalign_domain"] = [f"domain{number + 1}" for number in domains.predicted]
            section.obs["stalign_domain"] = section.obs["stalign_domain"].astype("category")
            found["domains"] = domains.k
        predicted = np.full(section.shape, np.nan, np.float32)
        targets = find_targets(data, shard, None, len(data.vocabulary), self.coverage) if table.has("image") else None
        if targets is not None:
            column = {int(gene): number for number, gene in enumerate(section.var["gene_index"])}
            columns = [column[int(gene)] for gene in targets.genes]
            predicted[:, columns] = predict_by_ridge(table, ("image",), slide, targets)
        section.layers["stalign_predicted"] = predicted
        section.uns["stalign"] = {**source, **found, "predicted_genes": int(np.isfinite(predicted[0]).sum())}
        with replace_file(path) as temporary:
            section.write_h5ad(temporary, compression="gzip")

    def _find_domains(self, niche: np.ndarray, shard: SlideShard) -> DomainResult:
        """niche: [N, D]."""
        labels = read_section(shard, self.label).labels
        classes = 0 if labels is None else len(set(labels) - {""})
        k = self.domains or (classes if classes > 1 else 7)
        ignored = np.array(["a", "b"] * len(niche))[: len(niche)]  # the read-out wants labels; its scores are unused
        return score_domains(niche, ignored, k, seeds=1, slide=shard.record.name)
