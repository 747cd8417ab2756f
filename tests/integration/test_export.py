"""A trained run out into a folder, and in again where no training package is; the model card; the hub."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import torch
import yaml
from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled
from safetensors.torch import load_file

from stalign_pl.data.datamodule import STAlignData
from stalign_pl.errors import ConfigError
from stalign_pl.evaluation.results import ALL, read_results
from stalign_pl.export.architecture import Architecture
from stalign_pl.export.licences import EncoderTerms, find_encoder_terms, refuse_public
from stalign_pl.export.pretrained import from_pretrained
from stalign_pl.models import ABFN, GeneMLP, NicheGeneTransformer, STAlign, TimmStream
from stalign_pl.objectives import ThreeLevelLoss
from stalign_pl.training.module import STAlignModule
from tests.support.paths import REPOSITORY
from tests.support.runs import QUICK, arguments, run_here
from tests.support.shard_spots import as_user, data_of_tiny, read_rows

SLIDE, ROWS = 2, 16
TRAINING = ("lightning", "pytorch_lightning", "lightning_fabric", "jsonargparse", "omegaconf", "wandb", "anndata")
TRAINING += ("scanpy", "h5py", "webdataset", "sklearn", "scipy", "pandas", "matplotlib", "simplejpeg", "torchmetrics")

ELSEWHERE = f"""
import sys
class Without:
    def __init__(self, finder):
        self.finder = finder
    def __getattr__(self, name):
        return getattr(self.finder, name)
    def find_spec(self, name, *more):
        return None if name.partition(".")[0] in {TRAINING!r} else self.finder.find_spec(name, *more)
sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
import numpy as np
from stalign_pl.data.pictures.colour import SlideColour
from stalign_pl.export.preparation import SlideSpots
from stalign_pl.export.pretrained import from_pretrained
folder, given, found = sys.argv[1:]
arrays = dict(np.load(given))
colour = SlideColour(arrays.pop("mean"), arrays.pop("sd"))
model = from_pretrained(folder)
embeddings = model.embed(SlideSpots(**arrays, colour=colour))
np.savez(found, **{{name: value.numpy() for name, value in vars(embeddings).items()}})
assert not set({TRAINING!r}) & sys.modules.keys()
"""


def export(run: Path, out: Path, *more: str) -> int:
    return run_here("export", "--config", str(run / "config.yaml"), "--out", str(out), *more)


@pytest.fixture(scope="module")
def tested(trained: Path, tiny_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the trained run, tested with its best checkpoint."""
    folder = tmp_path_factory.mktemp("tested")
    shutil.copytree(trained, folder, dirs_exist_ok=True)
    assert run_here(*arguments("test", tiny_shards, folder, *QUICK)) == 0
    return folder / "tiny"


@pytest.fixture(scope="module")
def exported(tested: Path) -> Path:
    out = tested.parent / "exports" / "tiny"
    assert export(tested, out) == 0
    return out


def in_training_form(run: Path, data: STAlignData) -> STAlignModule:
    """The LightningModule with the best checkpoint, put together by hand as tiny.yaml says."""
    image = partial(TimmStream, name="test_efficientnet_gn", size=32)
    niche = partial(NicheGeneTransformer, dim=16, depth=1, heads=2, head_dim=8, mlp=16, dropout=0.0)
    fusion = partial(ABFN, heads=2, head_dim=8, bottleneck=8, hidden=16, out=16)
    model = STAlign(data.gene_panel, image, image, partial(GeneMLP, hidden=16), niche, fusion, 2, 16, 16)
    module = STAlignModule(model, ThreeLevelLoss())
    module.load_state_dict(torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"])
    return module.eval()


def test_without_the_training_packages_embeddings_are_the_same(
    tested: Path, exported: Path, tiny_shards: Path, tmp_path: Path
) -> None:
    data = data_of_tiny(tiny_shards)
    batch = read_rows(data, SLIDE, ROWS)
    order = np.random.default_rng(8).permutation(len(data.shard_set.genes))
    spots = vars(as_user(data, SLIDE, batch, order))
    colour = spots.pop("colour")
    np.savez(tmp_path / "given.npz", **spots, mean=colour.mean, sd=colour.sd)
    paths = [str(path) for path in (exported, tmp_path / "given.npz", tmp_path / "found.npz")]
    done = subprocess.run([sys.executable, "-c", ELSEWHERE, *paths], capture_output=True, text=True, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr
    found = np.load(tmp_path / "found.npz")
    inputs = data.transform(batch)
    with torch.no_grad():
        wanted = in_training_form(tested, data).model(inputs.model)
    assert sorted(found.files) == sorted(vars(wanted))
    for name, value in vars(wanted).items():
        np.testing.assert_allclose(found[name], value.numpy(), rtol=0, atol=1e-6)
        assert value.std() > 1e-3


def test_the_card_says_what_went_in_and_how_it_did(tested: Path, exported: Path) -> None:
    card = (exported / "README.md").read_text()
    _, front, text = card.split("---\n", 2)
    assert yaml.safe_load(front)["license"] == "other"
    assert re.search(r"\| .* \| CC0 \| human \| .* \| 1 \| 1 \| 1 \| 64 \|", text)
    assert "val: 1 slide of 1 patient; test: 1 slide of 1 patient" in text
    rows = read_results(tested / "results.json")
    scored = {(row.split, row.row): row.mean for row in rows if (row.slide, row.metric) == (ALL, "mse")}
    for key in (("test", "stalign"), ("test", "constant"), ("val", "untrained")):
        assert f"{scored[key]:.3f}" in text.split("## Evaluation")[1]
    assert "No encoder began with published weights." in text
    example = text.split("```python\n")[1].split("```")[0]
    compile(example, "card", "exec")
    said = json.loads((exported / "provenance.json").read_text())
    assert said["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert said["seed"] == 3
    for file in exported.iterdir():
        assert str(tested.parents[1]).encode() not in file.read_bytes()


def test_results_of_other_weights_are_not_shown(tested: Path, tmp_path: Path) -> None:
    run = tmp_path / "tiny"
    shutil.copytree(tested, run)
    said = json.loads((run / "provenance.json").read_text())
    said["steps"]["test"] += 1
    (run / "provenance.json").write_text(json.dumps(said))
    assert export(run, tmp_path / "out") == 0
    text = (tmp_path / "out" / "README.md").read_text()
    assert f"`test` was last evaluated at step {said['steps']['test']}, with other weights" in text
    assert "### val" in text
    assert "### test" not in text


def test_the_average_is_what_goes_out(tested: Path, tmp_path: Path) -> None:
    run = tmp_path / "tiny"
    shutil.copytree(tested, run)
    path = run / "checkpoints" / "best.ckpt"
    saved = torch.load(path, weights_only=True)
    current = {key: value + 1 for key, value in saved["state_dict"].items()}
    torch.save({**saved, "current_model_state": current}, path)
    assert export(run, tmp_path / "out") == 0
    weights = load_file(tmp_path / "out" / "model.safetensors")
    torch.testing.assert_close(weights, {key: saved["state_dict"][f"model.{key}"] for key in weights})
    assert "exponential average of the weights" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--ckpt_path", "nowhere.ckpt"), "nowhere.ckpt: no such file; known words: best, last"),
        (("--encoder-licence", "mit"), "--encoder-licence mit: STREAM=LICENCE is wanted"),
        (("--encoder-licence", "spot_image=mit"), "names spot_image; streams that began with published weights: none"),
        (("--shards", "nowhere"), "there is no folder nowhere"),
        (("--config", "configs/demo.yaml"), "configs/demo.yaml is not a run's own"),
    ],
)
def test_exports_that_are_refused(
    tested: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...], said: str
) -> None:
    assert export(tested, tmp_path / "out", *more) == 1
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model: [", "config.yaml is not YAML"),
        ("data: {}", "config.yaml is not a run's own"),
        ("{model: {}, run: demo, data: {shards: x}}", "lacks seed_everything, model.model, run.name, data.niche"),
    ],
)
def test_a_damaged_config(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, said: str) -> None:
    (tmp_path / "config.yaml").write_text(text)
    assert export(tmp_path, tmp_path / "out") == 1
    assert said in capsys.readouterr().err


def terms(left_out: set[str], stated: dict[str, str], **stream: str | bool) -> tuple[EncoderTerms, ...]:
    config = yaml.safe_load(Path("tests/support/tiny.yaml").read_text())["model"]["model"]
    config["init_args"]["niche_image"] = {"class_path": "stalign_pl.models.TimmStream", "init_args": stream}
    return find_encoder_terms(Architecture.from_json(config), left_out, {"niche_image"}, stated)


def test_an_encoders_licence() -> None:
    uni = {"name": "hf-hub:MahmoodLab/UNI", "pretrained": True, "trains": "none"}
    (found,) = terms({"niche_image"}, {}, **uni)
    assert "cc-by-nc-nd-4.0" in found.licence
    assert found.holds == "left out"
    refuse_public((found,), "me/model")
    (found,) = terms(set(), {}, **uni)
    assert found.holds == "as published"
    with pytest.raises(ConfigError, match=r"without --private: .* weights of hf-hub:MahmoodLab/UNI \(cc-by-nc-nd"):
        refuse_public((found,), "me/model")
    (found,) = terms(set(), {}, name="resnet50.a1_in1k", pretrained=True)
    assert (found.licence, found.restricted) == ("apache-2.0", False)
    with pytest.raises(ConfigError, match=r"weights of w.pth .* --encoder-licence niche_image=LICENCE"):
        terms(set(), {}, name="resnet50", weights="/somewhere/w.pth")
    (found,) = terms(set(), {"niche_image": "CC BY-NC 4.0"}, name="resnet50", weights="/somewhere/w.pth")
    assert (found.name, found.restricted) == ("w.pth", True)


def test_push_uploads_the_folder_and_shows_no_token(
    tested: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    asked = []

    class Hub:
        def create_repo(self, name: str, **options: bool) -> None:
            asked.append((name, options))

        def upload_folder(self, repo_id: str, folder_path: Path, commit_message: str) -> None:
            asked.append((repo_id, sorted(path.name for path in folder_path.iterdir())))
            if repo_id.endswith("refused"):
                raise OfflineModeIsEnabled("offline")

    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    assert export(tested, tmp_path / "out", "--push", "me/model", "--private") == 0
    files = ["README.md", "config.json", "genes.tsv", "model.safetensors", "provenance.json"]
    assert asked == [("me/model", {"private": True, "exist_ok": True}), ("me/model", files)]
    assert export(tested, tmp_path / "out", "--push", "me/refused", "--overwrite") == 1
    printed = capfd.readouterr()
    assert "pushed to https://huggingface.co/me/model" in printed.out
    assert "the hub did not take it as me/refused" in printed.err
    assert "hf_secret" not in printed.out + printed.err


@pytest.mark.parametrize(
    ("given", "said"),
    [(("--push", "not_a_name"), "--push not_a_name: OWNER/NAME is wanted"), (("--private",), "give --push OWNER/NAME")],
)
def test_a_wrong_push_is_refused_before_the_work(
    tested: Path, tmp_path: Path, given: tuple, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert export(tested, tmp_path / "out", *given) == 1
    assert said in capfd.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_model_of_the_hub_by_name(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def snapshot(name: str, revision: str | None, allow_patterns: list[str]) -> str:
        if name != "me/model":
            raise LocalEntryNotFoundError("cannot be reached")
        assert {path.name for path in exported.iterdir()} <= set(allow_patterns)
        assert revision == "v2"
        return str(exported)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    assert from_pretrained("me/model", revision="v2").preparation.spot_size == 32
    with pytest.raises(ConfigError, match="a mapping of streams to files"):
        from_pretrained("me/model", "w.pth")
    with pytest.raises(
        ConfigError,
        match=r"the hub did not hand out a model me/other: cannot reach https://huggingface\.co.* cannot be reached",
    ):
        from_pretrained("me/other")
