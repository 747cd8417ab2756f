"""The whole model, and its construction from a YAML file with a gene panel that comes from elsewhere."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from functools import partial
from pathlib import Path

import pytest
import torch
from jsonargparse import ArgumentParser, set_parsing_settings

from stalign_pl.batch.embeddings import Embeddings
from stalign_pl.batch.gene_panel import GenePanel
from stalign_pl.batch.inputs import ModelInputs
from stalign_pl.models import Concat, Gated, NicheGeneTransformer, STAlign
from tests.support.panels import plain_panel
from tests.support.small_model import batch, small

YAML = """
data:
  panel: 11
size: 32
model:
  class_path: stalign_pl.models.STAlign
  init_args:
    spot_image:
      class_path: stalign_pl.models.TimmStream
      init_args: {name: test_convnext.r160_in1k, size: "${size}"}
    niche_image:
      class_path: stalign_pl.models.TimmStream
      init_args: {name: test_vit, size: 48, trains: none, model_args: {dynamic_img_size: true}}
    spot_gene:
      class_path: stalign_pl.models.GeneMLP
      init_args: {hidden: 16}
    niche_gene:
      class_path: stalign_pl.models.NicheGeneTransformer
      init_args: {dim: 12, depth: 1, heads: 2, head_dim: 4, mlp: 16}
    fusion:
      class_path: stalign_pl.models.ABFN
      init_args: {heads: 2, head_dim: 4, hidden: 24, out: 20}
    tokens: 2
    width: 8
    dim: 6
"""


class Data:
    def __init__(self, panel: int) -> None:
        self.gene_panel = plain_panel(2 * panel)  # known only once the data exist


def from_yaml(tmp_path: Path, *overrides: str) -> STAlign:
    (tmp_path / "run.yaml").write_text(YAML)
    set_parsing_settings(subclasses_enabled=[GenePanel])
    parser = ArgumentParser(parser_mode="omegaconf")
    parser.add_argument("--config", action="config")
    parser.add_argument("--size", type=int)
    parser.add_class_arguments(Data, "data")
    parser.add_subclass_arguments(STAlign, "model")
    parser.link_arguments("data.gene_panel", "model.init_args.genes", apply_on="instantiate")
    return parser.instantiate_classes(parser.parse_args(["--config", str(tmp_path / "run.yaml"), *overrides])).model


def shapes(embeddings: Embeddings) -> dict[str, tuple[int, ...]]:
    return {field.name: tuple(getattr(embeddings, field.name).shape) for field in fields(embeddings)}


EXPECTED = {
    **dict.fromkeys(("spot_image", "spot_gene", "niche_image", "niche_gene"), (3, 6)),
    **dict.fromkeys(("spot", "niche"), (3, 20)),
}


def test_a_yaml_file_builds_the_model(tmp_path: Path) -> None:
    model = from_yaml(tmp_path)
    assert model.genes == plain_panel(22)
    assert (model.spot_image.size, model.niche_image.size) == (32, 48)
    assert isinstance(model.niche_gene, NicheGeneTransformer)
    assert not model.niche_image.backbone.training
    assert shapes(model(batch())) == EXPECTED


def test_the_command_line_reaches_into_a_part(tmp_path: Path) -> None:
    overrides = ["--model.init_args.fusion=stalign_pl.models.Concat", "--model.init_args.fusion.init_args.out=5"]
    model = from_yaml(tmp_path, *overrides)
    assert isinstance(model.fuse_niche, Concat)
    assert model(batch()).niche.shape == (3, 5)


def test_an_unknown_option_of_a_part_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        from_yaml(tmp_path, "--model.init_args.fusion.init_args.bottelneck=5")
    assert raised.value.code == 2
    assert "bottelneck" in capsys.readouterr().err


def test_every_trained_parameter_has_a_gradient() -> None:
    model = small()
    embeddings = model(batch())
    assert shapes(embeddings) == EXPECTED
    sum((value * torch.randn_like(value)).sum() for value in vars(embeddings).values()).backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_the_streams_and_the_fusions_share_no_weights() -> None:
    model = small()
    assert model.fuse_spot is not model.fuse_niche
    storages = [parameter.data_ptr() for parameter in model.parameters()]
    assert len(set(storages)) == len(storages)
    embeddings = model(batch())
    embeddings.spot.sum().backward()
    reached = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None}
    assert reached == {"spot_image", "spot_gene", "fuse_spot"}


def test_image_embeddings_need_no_genes_and_equal_those_of_the_forward_pass() -> None:
    model = small().eval()
    given = batch()
    embeddings = model(given)
    alone = model(ModelInputs(spot_image=given.spot_image, niche_image=given.niche_image))
    assert torch.equal(alone.spot_image, embeddings.spot_image)
    assert torch.equal(alone.niche_image, embeddings.niche_image)
    assert (alone.spot_gene, alone.niche_gene, alone.spot, alone.niche) == (None, None, None, None)


def test_one_rows_embedding_does_not_depend_on_the_others() -> None:
    model = small().eval()
    alone = model(batch()[1:2])
    together = model(batch())
    for name, value in vars(alone).items():
        torch.testing.assert_close(value, getattr(together, name)[1:2], rtol=1e-4, atol=1e-5)


def test_embeddings_are_those_six_and_cannot_be_changed() -> None:
    assert [field.name for field in fields(Embeddings)] == list(EXPECTED)
    with pytest.raises(AttributeError):
        small()(batch()).spot = None


def test_the_model_imports_neither_lightning_nor_its_callers() -> None:
    probe = (
        "import sys, stalign_pl.models, stalign_pl.objectives\n"
        "heavy = ('lightning', 'anndata', 'scanpy', 'sklearn', 'webdataset')\n"
        "heavy += ('stalign_pl.training', 'stalign_pl.data')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_a_yaml_file_leaves_parts_out(tmp_path: Path) -> None:
    model = from_yaml(tmp_path, "--model.init_args.spot_gene=null", "--model.init_args.fusion=null")
    found = model(batch())
    assert [name for name, value in vars(found).items() if value is None] == ["spot_gene", "spot", "niche"]
    assert not any(key.startswith(("spot_gene", "pool_spot_gene", "fuse")) for key in model.state_dict())


def test_only_what_is_asked_for_is_computed() -> None:
    model = small()
    model.niche_image.forward = None  # would fail if called
    found = model(batch(), names=("spot_image", "spot"))
    assert [name for name, value in vars(found).items() if value is not None] == ["spot_image", "spot"]
    assert torch.equal(found.spot, model(batch(), names=("spot",)).spot)


def test_one_modality_can_be_embedded_alone_where_the_fusion_can() -> None:
    given = batch()
    for fusion, fused in ((partial(Gated, out=20), True), (partial(Concat, out=20), False)):
        model = small(fusion=fusion)
        found = model(ModelInputs(spot_image=given.spot_image, niche_image=given.niche_image))
        assert (found.spot is not None, found.niche is not None) == (fused, fused)
        assert found.spot_gene is None
        assert found.spot_image is not None
