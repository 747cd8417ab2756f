"""Models without some streams, and losses that do not reach every part."""

from __future__ import annotations

import itertools
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from stalign_pl.batch.inputs import ModelInputs
from stalign_pl.batch.spot_ids import SpotIds
from stalign_pl.errors import ConfigError
from stalign_pl.evaluation.results import read_results
from stalign_pl.models import ABFN, Concat, Gated, GeneMLP, GeneOnly, ImageOnly, STAlign
from stalign_pl.models.stalign import STREAMS
from stalign_pl.objectives import ThreeLevelLoss
from stalign_pl.training.module import STAlignModule
from stalign_pl.training.optimizer import OptimizerConfig
from tests.support.panels import plain_panel
from tests.support.runs import QUICK, arguments, logged, run_apart, run_here

WEIGHTS = ((0.4, 0.3), (1.0, 0.0), (0.0, 1.0), (0.0, 0.0), (0.35, 0.65), (0.5, 0.0))
FUSIONS = (partial(ABFN, heads=2, head_dim=4, hidden=8), Concat, partial(Gated, drop_modality=0.5), ImageOnly, GeneOnly)
PART = "--model.model.init_args."
TWO = ("--trainer.devices", "2", "--trainer.strategy", "ddp")
SHORT = ("--trainer.limit_train_batches", "2", "--trainer.max_epochs", "1", "--checkpoint.monitor", "null", *QUICK)


class Pixels(nn.Module):
    """The least image stream."""

    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.project = nn.Sequential(nn.Flatten(), nn.Linear(12, tokens * width), nn.Unflatten(1, (tokens, width)))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.project(image)


def is_possible(present: set[str], reads: tuple[str, ...] | None, weights: tuple[float, float]) -> bool:
    """By the rules, counted without the program."""
    scales = [{name for name in present if name.startswith(scale)} for scale in ("spot", "niche")]
    if reads is not None and any(0 < len(scale) < 2 and next(iter(scale))[-4:] not in str(reads) for scale in scales):
        return False
    if reads == ("image", "gene") and any(len(scale) == 1 for scale in scales):
        return False
    needs_spot, needs_niche, needs_cross = weights[0] > 0, weights[1] > 0, 1 - sum(weights) > 1e-9
    whole = [len(scale) == 2 for scale in scales]
    fused = reads is not None and all(scales)
    return (whole[0] or not needs_spot) and (whole[1] or not needs_niche) and (fused or not needs_cross)


def test_every_parameter_with_a_gradient_gets_one_in_every_combination() -> None:
    """As DistributedDataParallel wants it; what is impossible is refused."""
    torch.manual_seed(0)
    ids = SpotIds(torch.zeros(4).long(), torch.arange(4), torch.full((4, 1), -1), torch.ones(4, dtype=torch.bool))
    image, genes, measured = torch.rand(4, 3, 2, 2), torch.rand(4, 5), torch.ones(4, 5, dtype=torch.bool)
    trained = refused = 0
    streams = [set(chosen) for n in range(1, 5) for chosen in itertools.combinations(STREAMS, n)]
    for present, fusion, weights in itertools.product(streams, (*FUSIONS, None), WEIGHTS):
        kinds = {name: Pixels if name.endswith("image") else partial(GeneMLP, hidden=4) for name in present}
        reads = None if fusion is None else getattr(fusion, "func", fusion).reads
        try:
            model = STAlign(
                plain_panel(5), **{**dict.fromkeys(STREAMS), **kinds}, fusion=fusion, tokens=2, width=4, dim=3
            )
            module = STAlignModule(model, ThreeLevelLoss(*weights), OptimizerConfig())
        except ConfigError:
            assert not is_possible(present, reads, weights)
            refused += 1
            continue
        assert is_possible(present, reads, weights)
        embeddings = model(ModelInputs(image, genes, image, genes, measured), module.objective.embeddings)
        module.objective(embeddings, ids).total.backward()
        learning = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
        assert learning == {name for name, parameter in module.named_parameters() if parameter.grad is not None}
        assert len(learning) > 1
        trained += 1
    assert trained + refused == 15 * 6 * 6
    assert trained > 60
    assert refused > 60


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ([f"{PART}spot_gene", "null"], ["ABFN reads image and gene", "model.spot_gene is null", "ImageOnly"]),
        ([f"{PART}fusion", "null"], ["cross loss", "spot_weight and niche_weight to add up to 1"]),
        (
            [f"{PART}spot_gene", "null", f"{PART}fusion", "stalign_pl.models.ImageOnly"],
            ["the spot loss contrasts spot_image with spot_gene", "no spot_gene", "objective.spot_weight to 0"],
        ),
        (
            [f"{PART}fusion", "null", "--model.objective.init_args.niche_weight", "0.6"],
            ["checkpoint.monitor is 'val/ari'", "fused niche embedding"],
        ),
    ],
)
def test_what_a_part_that_is_null_forbids_is_named(
    given: list[str], named: list[str], tiny_shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_here(*arguments("fit", tiny_shards, tmp_path, *given)) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    for text in named:
        assert text in line


def test_a_niche_without_genes_beside_no_fusion_trains_and_is_scored(
    tiny_shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """fit, test and predict of spots alone, images of the niche looked at."""
    given = [f"{PART}niche_gene", "null", f"{PART}fusion", "null", "--checkpoint.save_top_k", "0"]
    given += ["--model.objective.init_args.spot_weight", "1.0", "--model.objective.init_args.niche_weight", "0.0"]
    assert run_here(*arguments("fit", tiny_shards, tmp_path, *given, *SHORT)) == 0
    printed = capsys.readouterr().out
    assert printed.count("no loss reaches model.model.niche_image, pool_niche_image: they stay as they are") == 1
    assert printed.count("SpatialDomainCallback: the model has no niche, spot_fused embedding") == 1
    row = next(row for row in logged(tmp_path / "tiny") if "train/loss" in row)
    assert "train/loss_spot" in row
    assert not {name for name in row if name.endswith(("_niche", "_cross"))}
    assert run_here(*arguments("test", tiny_shards, tmp_path, *given, *QUICK)) == 0
    rows = {(row.task, row.row) for row in read_results(tmp_path / "tiny" / "results.json")}
    assert ("gene_prediction", "stalign") in rows
    assert ("spatial_domains", "image") in rows
    assert not {("spatial_domains", "stalign"), ("spatial_domains", "untrained")} & rows
    assert run_here(*arguments("predict", tiny_shards, tmp_path, *given)) == 0
    import anndata

    slide = anndata.read_h5ad(tmp_path / "tiny" / "predictions" / "tiny_3.h5ad")
    assert "stalign_domain" not in slide.obs
    assert not [key for key in slide.obsm if key.startswith("X_stalign")]
    assert slide.uns["stalign"]["predicted_genes"] > 0


def test_genes_alone_are_scored_by_domains(tiny_shards: Path, tmp_path: Path) -> None:
    given = [f"{PART}spot_image", "null", f"{PART}niche_image", "null", f"{PART}fusion", "stalign_pl.models.GeneOnly"]
    given += [f"{PART}fusion.init_args.out", "16", "--checkpoint.save_top_k", "0"]
    given += ["--model.objective.init_args.spot_weight", "0.0", "--model.objective.init_args.niche_weight", "0.0"]
    assert run_here(*arguments("fit", tiny_shards, tmp_path, *given, *SHORT, "--model.micro_batch", "8")) == 0
    rows = {(row.task, row.row) for row in read_results(tmp_path / "tiny" / "results.json")}
    assert ("spatial_domains", "stalign") in rows
    assert ("gene_prediction", "constant") in rows
    assert ("gene_prediction", "stalign") not in rows


def test_two_processes_train_parts_that_only_some_losses_reach(tiny_shards: Path, tmp_path: Path) -> None:
    """The image stream of the spot alone is fused; the spot has no genes, the niche both."""
    given = [f"{PART}spot_gene", "null", f"{PART}fusion", "stalign_pl.models.ImageOnly", f"{PART}fusion.init_args.out"]
    given += ["16", "--model.objective.init_args.spot_weight", "0.0", "--checkpoint.save_top_k", "0"]
    printed = run_apart(*arguments("fit", tiny_shards, tmp_path, *given, *SHORT, *TWO))
    assert "no loss reaches model.model.pool_spot_image" in printed
    rows = [row for row in logged(tmp_path / "tiny") if "train/loss" in row]
    assert len(rows) == 2
    assert all({"train/loss_niche", "train/loss_cross"} <= row.keys() for row in rows)
    assert not any("train/loss_spot" in row for row in rows)


@pytest.mark.parametrize("micro_batch", ["null", "4"])
def test_gradient_checkpointing_trains_the_same_weights(tiny_shards: Path, tmp_path: Path, micro_batch: str) -> None:
    """With adapters whose dropout is drawn by spot, again in the backward pass."""
    image = f"{PART}spot_image.init_args"
    given = [f"{image}.name", "test_vit", f"{image}.trains", "{rank: 2, alpha: 64, dropout: 0.5}", *SHORT]
    given += ["--model.micro_batch", micro_batch, "--checkpoint.save_top_k", "0", "--trainer.num_sanity_val_steps", "0"]
    given += ["--trainer.limit_val_batches", "0", "--model.optimizer.lr", "0.01", "--trainer.limit_train_batches", "3"]
    for name in ("true", "false"):
        options = [f"{image}.gradient_checkpointing", name]
        assert run_here(*arguments("fit", tiny_shards, tmp_path / name, *given, *options)) == 0
    found, expected = (
        torch.load(tmp_path / name / "tiny" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for name in ("true", "false")
    )
    assert any(".adapter.2." in key and value.any() for key, value in found.items())
    assert all(torch.equal(found[key], value) for key, value in expected.items())
