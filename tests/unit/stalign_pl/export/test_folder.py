"""A model out into a folder and in again: the same embeddings, what was left out, and folders that are refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from stalign_pl.batch.gene_panel import GenePanel
from stalign_pl.data.niches.config import NicheConfig
from stalign_pl.errors import ConfigError
from stalign_pl.export.architecture import Architecture
from stalign_pl.export.preparation import Preparation, SlideSpots
from stalign_pl.export.pretrained import PretrainedModel, from_pretrained, save_pretrained
from tests.support.panels import plain_panel
from tests.support.paths import SCGPT
from tests.support.scgpt_fixture import PANEL, written

FILES = {"model.safetensors", "config.json", "genes.tsv", "README.md", "provenance.json"}
GENES = 9


def part(name: str, /, **arguments: object) -> dict[str, Any]:
    return {"class_path": f"stalign_pl.models.{name}", "init_args": arguments}


def described(**changes: object) -> dict[str, Any]:
    """Of a model whose niche image encoder is frozen and read from a file, where one is named."""
    parts = {
        "spot_image": part("TimmStream", name="test_vit", size=32, trains={"rank": 2}, mean=[0.2, 0.3, 0.4]),
        "niche_image": part("TimmStream", name="test_vit", size=48, trains="none"),
        "spot_gene": part("GeneMLP", hidden=8, dropout=0.5),
        "niche_gene": part("NicheGeneTransformer", dim=12, depth=1, heads=2, head_dim=4, mlp=16),
        "fusion": part("Gated", out=10),
    }
    return part("STAlign", **{**parts, "tokens": 2, "width": 8, "dim": 6, **changes})


def preparation(genes: int = GENES) -> Preparation:
    share = np.random.default_rng(1).dirichlet(np.ones(genes))
    return Preparation(32, 48, "bilinear", "bicubic", None, share, 1e4, NicheConfig(), (55.0, 55.0), (200.0, 220.5))


def spots(genes: int = GENES, rows: int = 5) -> SlideSpots:
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (rows, side, side, 3), dtype=np.uint8) for side in (20, 70)]
    counts = [rng.poisson(3, (rows, genes)) for _ in range(2)]
    return SlideSpots(*pictures, *counts, [f"G{n}" if genes > GENES else f"GENE{n + 1}" for n in range(genes)])


def exported(folder: Path, value: dict[str, Any], panel: GenePanel | None = None, **options: object) -> PretrainedModel:
    """Build, move off the first weights, save; the model in eval mode."""
    architecture = Architecture.from_json(value)
    torch.manual_seed(5)
    model = architecture.build(panel or plain_panel(GENES)).eval()
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1 * torch.randn_like(parameter)
    prepared = preparation(len(model.genes))
    save_pretrained(model, folder, architecture, prepared, "# card", {"seed": 1}, **options)
    return PretrainedModel(model, prepared)


def assert_same(first: PretrainedModel, second: PretrainedModel, shown: SlideSpots) -> None:
    found = vars(second.embed(shown))
    for name, wanted in vars(first.embed(shown)).items():
        if wanted is None:
            assert found[name] is None
        else:
            torch.testing.assert_close(found[name], wanted, rtol=0, atol=1e-6)


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    torch.manual_seed(2)
    save_file(timm.create_model("test_vit", num_classes=0, img_size=48).state_dict(), tmp_path / "encoder.safetensors")
    return tmp_path / "encoder.safetensors"


def with_encoder(path: Path) -> dict[str, Any]:
    return described(niche_image=part("TimmStream", name="test_vit", size=48, trains="none", weights=str(path)))


def edit(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    value = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: each for key, each in value.items() if each != "gone"}))


def test_the_same_embeddings_and_what_a_folder_holds(tmp_path: Path) -> None:
    model = exported(tmp_path / "out", described())
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    before = torch.get_rng_state()
    loaded = from_pretrained(tmp_path / "out")
    assert torch.equal(torch.get_rng_state(), before)
    assert not loaded.model.training
    assert loaded.model.genes == model.model.genes
    assert loaded.preparation.niche_um == (200.0, 220.5)
    assert_same(model, loaded, spots())


def test_parts_that_a_model_is_without(tmp_path: Path) -> None:
    value = described(spot_gene=None, niche_gene=None, fusion=part("ImageOnly", out=7))
    model, loaded = exported(tmp_path / "out", value), from_pretrained(tmp_path / "out")
    assert_same(model, loaded, spots())
    assert loaded.embed(spots()).spot_gene is None
    assert loaded.embed(spots()).niche.shape == (5, 7)


def test_a_frozen_encoder_stays_out_and_is_asked_for(tmp_path: Path, encoder: Path) -> None:
    model = exported(tmp_path / "out", with_encoder(encoder))
    held = load_file(tmp_path / "out" / "model.safetensors")
    assert not [key for key in held if key.startswith("niche_image.backbone")]
    assert [key for key in held if key.startswith("niche_image.to_tokens")]
    assert str(tmp_path) not in (tmp_path / "out" / "config.json").read_text()
    with pytest.raises(ConfigError, match=r"niche_image were left out .* encoder.safetensors.*sources="):
        from_pretrained(tmp_path / "out")
    assert_same(model, from_pretrained(tmp_path / "out", {"niche_image": str(encoder)}), spots())
    other = {key: value + 1e-3 for key, value in load_file(encoder).items()}
    save_file(other, tmp_path / "other.safetensors")
    with pytest.raises(ConfigError, match=r"niche_image was trained with other weights of encoder.safetensors"):
        from_pretrained(tmp_path / "out", {"niche_image": str(tmp_path / "other.safetensors")})
    with pytest.raises(ConfigError, match=r"sources names spot_image; .* left out: niche_image"):
        from_pretrained(tmp_path / "out", {"spot_image": str(encoder)})


def test_a_frozen_encoder_goes_along_where_asked(tmp_path: Path, encoder: Path) -> None:
    model = exported(tmp_path / "out", with_encoder(encoder), include_frozen=True)
    encoder.unlink()
    assert_same(model, from_pretrained(tmp_path / "out"), spots())


def test_an_encoder_of_the_hub_is_written_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoder: Path) -> None:
    """Name, options, mean and std of a repository's encoder stand in the folder; its weights come by its name."""
    asked, create = [], timm.create_model

    def from_hub(name: str, pretrained: bool = False, **options: object) -> nn.Module:
        if not name.startswith("hf-hub:"):
            return create(name, pretrained=pretrained, **options)
        asked.append((name, pretrained))
        made = create("test_vit", pretrained=False, **({"img_size": 48} | options))
        made.load_state_dict(load_file(encoder))
        made.pretrained_cfg = {**made.pretrained_cfg, "mean": (0.1, 0.2, 0.3)}
        return made

    monkeypatch.setattr(timm, "create_model", from_hub)
    config = ({}, "test_vit", {"img_size": 48, "num_classes": 0})
    monkeypatch.setattr(timm.models, "load_model_config_from_hf", lambda name: config)
    uni = part("TimmStream", name="hf-hub:MahmoodLab/UNI", size=48, trains="none", pretrained=True)
    model = exported(tmp_path / "out", described(niche_image=uni))
    written_out = json.loads((tmp_path / "out" / "config.json").read_text())
    arguments = written_out["model"]["init_args"]["niche_image"]["init_args"]
    assert (arguments["name"], arguments["model_args"]) == ("test_vit", {"img_size": 48})
    assert arguments["mean"] == pytest.approx([0.1, 0.2, 0.3])
    assert written_out["left_out"]["niche_image"]["source"] == {"name": "hf-hub:MahmoodLab/UNI", "on_hub": True}
    assert_same(model, from_pretrained(tmp_path / "out"), spots())
    assert asked == [("hf-hub:MahmoodLab/UNI", True)] * 2
    assert_same(model, from_pretrained(tmp_path / "out", {"niche_image": str(encoder)}), spots())
    assert len(asked) == 2


@pytest.mark.parametrize("trains", ["none", "all"])
def test_scgpt_goes_along_with_its_vocabulary(tmp_path: Path, trains: str) -> None:
    folder = tmp_path / "scgpt"
    folder.mkdir()
    for name in ("args.json", "vocab.json"):
        shutil.copy(SCGPT / name, folder)
    written(folder)
    value = described(spot_gene=part("ScGPT", folder=str(folder), trains=trains))
    model = exported(tmp_path / "out", value, PANEL)
    assert (tmp_path / "out" / "spot_gene" / "vocab.json").is_file()
    sources = {"spot_gene": str(folder)} if trains == "none" else {}
    assert_same(model, from_pretrained(tmp_path / "out", sources), spots(len(PANEL)))


def test_a_folder_is_replaced_only_where_asked_and_only_an_export(tmp_path: Path) -> None:
    exported(tmp_path / "out", described())
    with pytest.raises(ConfigError, match=r"out exists.*--overwrite"):
        exported(tmp_path / "out", described())
    model = exported(tmp_path / "out", described(dim=4), overwrite=True)
    assert_same(model, from_pretrained(tmp_path / "out"), spots())
    (tmp_path / "out" / "thesis.tex").touch()
    with pytest.raises(ConfigError, match=r"holds thesis.tex"):
        exported(tmp_path / "out", described(), overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_write_that_fails_leaves_the_old_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exported(tmp_path / "out", described())
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    monkeypatch.setattr(
        "stalign_pl.export.pretrained.write_json", lambda *_: (_ for _ in ()).throw(OSError("disk full"))
    )
    with pytest.raises(OSError, match="disk full"):
        exported(tmp_path / "out", described(dim=4), overwrite=True)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


FOREIGN = {"class_path": "os.system", "init_args": {"command": "true"}}
WRONG_HIDDEN = part("GeneMLP", hidden="8")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format_version": 2}, "format version 2, this program reads 1"),
        ({"left_out": "gone"}, r"missing keys \['left_out'\]"),
        ({"colour": 1}, r"unknown keys \['colour'\]"),
        ({"genes": {"number": 9, "sha256": "0" * 64}}, "genes.tsv is not the gene list .* hash is .* not 000000000000"),
        ({"model": described(spot_gene=FOREIGN)}, r"class_path is 'os.system'; known: stalign_pl.models.GeneMLP"),
        ({"model": described(spot_image=part("GeneMLP"))}, r"spot_image.class_path .*; known: .*TimmStream"),
        ({"model": part("ABFN")}, "known: stalign_pl.models.STAlign"),
        ({"model": {"class_path": ["STAlign"]}}, r"class_path is \['STAlign'\]; known: stalign_pl.models.STAlign"),
        ({"model": {"class_path": "stalign_pl.models.STAlign", "init_args": 2.5}}, "model.init_args is 2.5; arguments"),
        ({"model": described(dim=-1)}, "STAlign: dim is -1; at least 1"),
        ({"model": described(spot_gene=part("GeneMLP", dropout=2.0))}, "cannot be built with its arguments: .*2.0"),
        ({"model": part("STAlign", spot_image=None)}, "fusion, niche_gene, niche_image, spot_gene missing"),
        ({"model": described(spot_gene=WRONG_HIDDEN)}, "model.spot_gene.hidden is '8'; int is wanted"),
        ({"model": described(spot_gene=part("GeneMLP", hiden=8))}, r"unknown arguments \['hiden'\].*known: hidden"),
        ({"model": described(width=16)}, r"wrong shapes .*should be .*of one export"),
        ({"model": described(fusion=None)}, "extra keys fuse_niche"),
        ({"model": described(fusion=part("ABFN", out=10))}, "missing keys fuse_niche"),
    ],
)
def test_configurations_that_are_refused(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    exported(tmp_path / "out", described())
    edit(tmp_path / "out", **changes)
    with pytest.raises(ConfigError, match=said):
        from_pretrained(tmp_path / "out")


def test_weights_left_out_of_a_part_that_has_no_source(tmp_path: Path) -> None:
    exported(tmp_path / "out", described())
    left = {"source": {"name": "owner/model", "on_hub": True}, "sha256": "0" * 64}
    edit(tmp_path / "out", left_out={"spot_gene": left})
    with pytest.raises(ConfigError, match="left_out names spot_gene, a part that never starts with published weights"):
        from_pretrained(tmp_path / "out")


def test_an_architecture_without_the_source_of_the_models_encoder(tmp_path: Path, encoder: Path) -> None:
    model = Architecture.from_json(with_encoder(encoder)).build(plain_panel(GENES))
    with pytest.raises(ConfigError, match="niche_image of the model has weights from a source"):
        save_pretrained(model, tmp_path / "out", Architecture.from_json(described()), preparation(), "# card", {})
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["./nowhere", "../x", "-x/y", "a..b/c"])
def test_a_path_that_is_not_there_is_no_name_on_the_hub(name: str) -> None:
    with pytest.raises(ConfigError, match=r"there is no folder .*; a name on the hub is OWNER/NAME"):
        from_pretrained(name)


def test_folders_that_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no exported model: it has no config.json"):
        from_pretrained(tmp_path)
    with pytest.raises(ConfigError, match=r"there is no folder .*absent; a name on the hub is OWNER/NAME"):
        from_pretrained(tmp_path / "absent")
    exported(tmp_path / "out", described())
    weights = tmp_path / "out" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-9])
    with pytest.raises(ConfigError, match=r"model.safetensors: is no safetensors file, or a damaged one"):
        from_pretrained(tmp_path / "out")
    genes = tmp_path / "out" / "genes.tsv"
    genes.write_text(genes.read_text().replace("GENE3", "GENE4"))
    with pytest.raises(ConfigError, match=r"genes.tsv is not the gene list"):
        from_pretrained(tmp_path / "out")


def test_a_model_in_train_mode_embeds_nothing() -> None:
    model = Architecture.from_json(described()).build(plain_panel(GENES))
    with pytest.raises(ConfigError, match="train mode"):
        PretrainedModel(model.train(), preparation()).embed(spots())
