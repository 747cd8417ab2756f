"""Gene regression against loops over rows and genes, on one process, in micro-batches and on two."""

from __future__ import annotations

import gc
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from stalign_pl.batch.gene_panel import GenePanel
from stalign_pl.batch.inputs import GeneTargets
from stalign_pl.batch.spot_ids import SpotIds
from stalign_pl.errors import ConfigError
from stalign_pl.objectives import GeneRegression, RegressionConfig
from stalign_pl.objectives.three_level import LossTerms
from stalign_pl.training.micro_batches import compute_loss_by_parts, split_rows
from tests.support.loss_reference import part
from tests.support.towers import FIELDS, LOCAL, Towers, global_batch, outcome

GENES = 7
PANEL = GenePanel(
    tuple("abcdefg"), tuple("ABCDEFG"), np.linspace(0.5, 2, GENES, dtype=np.float32), np.full(GENES, 0.3, np.float32)
)
ALL_THREE = {"image_to_gene": 0.7, "niche_to_gene": 2.0, "spot_to_gene": 0.3}
PADDING = (1, 7, 8)


def targets_of(rows: int) -> GeneTargets:
    """Expression of `rows` rows; a gene is measured in two rows of three, none in row 2."""
    generator = torch.Generator().manual_seed(5)
    spot, niche = 3 * torch.rand(2, rows, GENES, generator=generator, dtype=torch.float64)
    measured = torch.rand(rows, GENES, generator=generator) < 2 / 3
    measured[2] = False
    return GeneTargets(spot, niche, measured)


def rows_of(targets: GeneTargets, rows: slice) -> GeneTargets:
    return GeneTargets(targets.spot[rows], targets.niche[rows], targets.measured[rows])


class RegressingTowers(Towers):
    """Six towers, the contrasts, and the regressions of `options`; in micro-batches of `size` rows where given."""

    def __init__(self, size: int | None = None, **options: float | str) -> None:
        super().__init__("info_nce", {"other_slides": 1.0})
        torch.manual_seed(1)
        self.size, self.regression = size, GeneRegression(RegressionConfig(**options), PANEL, dict.fromkeys(FIELDS, 4))
        self.double()

    def forward(self, features: torch.Tensor, ids: SpotIds, targets: GeneTargets) -> LossTerms:
        def embed(rows: slice) -> SimpleNamespace:
            return SimpleNamespace(**{name: tower(features[rows]) for name, tower in self.towers.items()})

        def loss(embedded: SimpleNamespace) -> LossTerms:
            return self.regression(self.loss(embedded, ids), embedded, targets, ids.valid)

        if self.size is None:
            return loss(embed(slice(None)))
        own = [*self.loss.parameters(), *self.regression.parameters()]
        return compute_loss_by_parts(embed, loss, own, split_rows(len(ids), self.size), torch.Tensor.backward)


def reference(
    model: RegressingTowers,
    features: torch.Tensor,
    targets: GeneTargets,
    valid: torch.Tensor,
    name: str,
    sources: tuple[str, ...],
    target: str,
    scale: str,
) -> torch.Tensor:
    """The loss of one head by loops."""
    head, total = model.regression.heads[name], 0
    for row in (row for row in range(len(features)) if valid[row]):
        given = torch.cat([model.towers[source](features[row]) for source in sources])
        errors = []
        for gene in (gene for gene in range(GENES) if targets.measured[row, gene]):
            wanted = (getattr(targets, target)[row, gene] - PANEL.mean[gene].item()) / (
                PANEL.sd[gene].item() if scale == "panel" else 1
            )
            errors.append((given @ head.weight[gene] + head.bias[gene] - wanted.clamp(-10, 10)) ** 2)
        total = total + (sum(errors) / len(errors) if errors else 0)
    return total / valid.sum()


@pytest.mark.parametrize("scale", ["panel", "none"])
@pytest.mark.parametrize(
    ("name", "sources", "target", "image_target"),
    [
        ("image_to_gene", ("spot_image", "niche_image"), "spot", "spot"),
        ("image_to_gene", ("spot_image", "niche_image"), "niche", "niche"),
        ("niche_to_gene", ("niche",), "niche", "spot"),
        ("spot_to_gene", ("spot",), "spot", "niche"),
    ],
)
def test_a_regression_is_the_mean_over_rows_of_the_mean_over_genes(
    name: str, sources: tuple[str, ...], target: str, image_target: str, scale: str
) -> None:
    (features, ids), targets = global_batch(2, PADDING), targets_of(2 * LOCAL)
    given = {name: 1.5, "image_target": image_target, "scale": scale}
    model, plain, again = RegressingTowers(**given), RegressingTowers(), RegressingTowers(**given)
    found, contrasts = outcome(model, model(features, ids, targets)), plain(features, ids, targets)
    expected = reference(again, features, targets, ids.valid, name, sources, target, scale)
    assert found["diagnostics"][f"loss_{name}"].item() == pytest.approx(expected.item(), rel=1e-10)
    total = again.loss(SimpleNamespace(**{k: tower(features) for k, tower in again.towers.items()}), ids).total
    (total + 1.5 * expected).backward()
    assert found["values"]["total"].item() == pytest.approx((contrasts.total + 1.5 * expected).item(), rel=1e-10)
    gradients = {key: parameter.grad for key, parameter in again.named_parameters()}
    assert set(gradients) == set(found["gradients"])
    assert f"regression.heads.{name}.weight" in gradients
    torch.testing.assert_close(found["gradients"], gradients, rtol=1e-9, atol=1e-12)


def test_what_is_padding_or_not_measured_has_no_effect() -> None:
    (features, ids), targets = global_batch(2, PADDING), targets_of(2 * LOCAL)
    expected = outcome(model := RegressingTowers(**ALL_THREE), model(features, ids, targets))
    absent = ~(targets.measured & ids.valid[:, None])
    spoiled = GeneTargets(
        targets.spot.masked_fill(absent, torch.nan), targets.niche.masked_fill(absent, torch.inf), targets.measured
    )
    features[~ids.valid] = torch.nan
    model = RegressingTowers(**ALL_THREE)
    embedded = {name: tower(features.nan_to_num()) for name, tower in model.towers.items()}
    embedded = {name: tensor.masked_fill(~ids.valid[:, None], torch.nan) for name, tensor in embedded.items()}
    terms = model.regression(
        model.loss(SimpleNamespace(**embedded), ids), SimpleNamespace(**embedded), spoiled, ids.valid
    )
    torch.testing.assert_close(outcome(model, terms), expected, rtol=1e-10, atol=1e-12)


def test_without_weights_there_is_nothing_to_train_or_log() -> None:
    (features, ids), targets = global_batch(2, PADDING), targets_of(2 * LOCAL)
    model = RegressingTowers()
    assert list(model.regression.parameters()) == []
    assert not any("to_gene" in name for name in model(features, ids, targets).diagnostics)


@pytest.mark.parametrize("size", [1, 5])
def test_micro_batches_have_the_gradient_of_the_whole_batch(size: int) -> None:
    (features, ids), targets = global_batch(2, PADDING), targets_of(2 * LOCAL)
    whole, parts = RegressingTowers(**ALL_THREE), RegressingTowers(size, **ALL_THREE)
    expected, found = (outcome(model, model(features, ids, targets)) for model in (whole, parts))
    assert all(gradient.abs().max() > 1e-6 for gradient in expected["gradients"].values())
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def test_a_head_reads_the_images_that_the_model_has_and_needs_one() -> None:
    spot_alone = GeneRegression(RegressionConfig(image_to_gene=1.0), PANEL, {"spot_image": 4, "spot_gene": 4})
    assert spot_alone.embeddings == ("spot_image",)
    assert spot_alone.heads["image_to_gene"].in_features == 4
    with pytest.raises(ConfigError, match=r"regression\.niche_to_gene is 2\.0, and the model has no niche embedding"):
        GeneRegression(RegressionConfig(niche_to_gene=2.0), PANEL, {"spot_image": 4})


def run_rank(rank: int, size: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=size)
    steps(rank, size, folder)
    gc.collect()  # as in test_distributed
    dist.barrier()
    dist.destroy_process_group()


def steps(rank: int, size: int, folder: str) -> None:
    rows = slice(rank * LOCAL, (rank + 1) * LOCAL)
    (features, ids), targets = global_batch(size, PADDING), targets_of(size * LOCAL)
    for micro in (None, 1):
        model = nn.parallel.DistributedDataParallel(RegressingTowers(micro, **ALL_THREE))
        found = outcome(model, model(features[rows], part(ids, rows), rows_of(targets, rows)))
        torch.save(found, Path(folder) / f"{micro}-{rank}.pt")


def test_two_ranks_equal_one_process_on_the_global_batch(tmp_path: Path) -> None:
    mp.spawn(run_rank, (2, str(tmp_path)), nprocs=2)
    whole = RegressingTowers(**ALL_THREE)
    expected = outcome(whole, whole(*global_batch(2, PADDING), targets_of(2 * LOCAL)))
    for micro in (None, 1):
        for rank in range(2):
            found = torch.load(tmp_path / f"{micro}-{rank}.pt", weights_only=True)
            torch.testing.assert_close(found["values"], expected["values"], rtol=1e-12, atol=0)
            torch.testing.assert_close(found["gradients"], expected["gradients"], rtol=1e-9, atol=1e-12)
            torch.testing.assert_close(found["diagnostics"], expected["diagnostics"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"niche_to_gene": -0.1}, r"regression\.niche_to_gene is -0\.1; a weight, 0 or more"),
        ({"image_to_gene": float("nan")}, r"regression\.image_to_gene is nan"),
        ({"scale": "sd"}, r"regression\.scale is 'sd'; known: panel, none"),
        ({"image_target": "patch"}, r"regression\.image_target is 'patch'; known: spot, niche"),
    ],
)
def test_what_cannot_be_meant_is_refused(given: dict[str, float | str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RegressionConfig(**given)
