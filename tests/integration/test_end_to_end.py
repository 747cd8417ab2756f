"""From shards to a table and an annotated slide: what fit, test and predict leave in a run's folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from stalign_pl.evaluation.results import ALL, read_results
from tests.support.runs import QUICK, arguments, logged, run_here, written

FIT_FILES = {
    *("config.yaml", "metrics.csv", "results.json", "provenance.json", "genes.tsv", "writer.json"),
    *("checkpoints/best.ckpt", "checkpoints/last.ckpt"),
    *(f"figures/tiny_2-{kind}-epoch00{epoch}.png" for kind in ("domains", "genes") for epoch in (0, 1)),
}
FLOORS = {
    *("untrained", "image", "pixels", "coordinates", "pca", *(f"pca_smooth{rounds}" for rounds in range(1, 7))),
    *("train_pca", "train_pca_smooth1", "train_pca_smooth2", "train_niche_pca", "train_niche_pca_smooth1"),
}


@pytest.fixture
def own(trained: Path, tmp_path: Path) -> Path:
    """A folder of runs with a copy of the trained run, to write in."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    return tmp_path


def rows_of(run: Path, task: str, split: str) -> set[str]:
    rows = read_results(run / "results.json")
    return {row.row for row in rows if (row.task, row.split, row.slide) == (task, split, ALL)}


def assert_not_blank(picture: Path) -> None:
    pixels = np.asarray(Image.open(picture).convert("RGB"))
    assert min(pixels.shape[:2]) > 200
    assert len(np.unique(pixels[::5, ::5].reshape(-1, 3), axis=0)) > 50


def test_fit_writes_exactly_its_files(trained: Path) -> None:
    run = trained / "tiny"
    assert written(run) == FIT_FILES
    for picture in (run / "figures").iterdir():
        assert_not_blank(picture)
    steps = [int(row["step"]) for row in logged(run) if "train/loss" in row]
    assert steps == list(range(8))
    evaluated = [row for row in logged(run) if "val/ari" in row]
    assert len(evaluated) == 2
    assert {"val/ari", "val/nmi", "val/gene_mse", "val/gene_pearson", "val/ari/tiny_2"} <= evaluated[0].keys()


def test_results_hold_the_model_and_every_floor(trained: Path) -> None:
    run = trained / "tiny"
    assert rows_of(run, "spatial_domains", "val") == {"stalign", "stalign_spot", *FLOORS}
    assert rows_of(run, "gene_prediction", "val") == {"stalign", "untrained", "image", "constant"}
    assert rows_of(run, "spatial_domains", "test") == set()
    last = [row for row in logged(run) if "val/ari" in row][-1]
    rows = read_results(run / "results.json")
    of_model = {(row.metric, row.readout): row.mean for row in rows if row.row == "stalign" and row.slide == ALL}
    assert float(last["val/ari"]) == pytest.approx(of_model["ari", "tied_gmm"], abs=1e-6)
    assert float(last["val/gene_mse"]) == pytest.approx(of_model["mse", "ridge"], rel=1e-6)


def test_the_untrained_floor_is_not_the_trained_model(trained: Path) -> None:
    rows = read_results(trained / "tiny" / "results.json")
    mse = {row.row: row.mean for row in rows if row.metric == "mse" and row.slide == ALL}
    assert mse["untrained"] != mse["stalign"]


def test_checkpoints_load_as_plain_data_and_name_their_vocabulary(trained: Path) -> None:
    for name in ("best", "last"):
        checkpoint = torch.load(trained / "tiny" / "checkpoints" / f"{name}.ckpt", weights_only=True)
        assert checkpoint["STAlignData"]["n_genes"] == 30
    assert checkpoint["global_step"] == 8


def test_the_saved_config_is_whole_and_starts_a_run(trained: Path, tmp_path: Path) -> None:
    saved = trained / "tiny" / "config.yaml"
    config = yaml.safe_load(saved.read_text())
    assert config["data"]["composition"] == {"slides": 2, "spots": 8, "run": 4}
    assert config["data"]["augmentation"]["zoom"] == 0.1  # a default that nobody typed
    given = ["--run.folder", str(tmp_path), *QUICK, "--trainer.max_steps", "1", "--checkpoint.monitor", "null"]
    assert run_here("fit", "--config", str(saved), *given) == 0
    first, again = (logged(run / "tiny")[0]["train/loss"] for run in (trained, tmp_path))
    assert first == again


def test_test_prints_and_writes_validation_and_test_patients_apart(
    own: Path, tiny_shards: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = own / "tiny"
    config = (run / "config.yaml").read_text()
    assert run_here(*arguments("test", tiny_shards, own)) == 0
    printed = capsys.readouterr().out
    table = (run / "table.txt").read_text()
    for text in (printed, table):
        assert 0 < text.index("val, mean over slides") < text.index("test, mean over slides")
        for name in ("stalign", "pca_smooth6", "coordinates", "constant"):
            assert text.count(f"│ {name} ") == 2
    for split, slide in (("val", "tiny_2"), ("test", "tiny_3")):
        model = {"stalign", "stalign_spot", "stalign_spot_pair", "stalign_niche_pair"}
        assert rows_of(run, "spatial_domains", split) == model | FLOORS
        assert rows_of(run, "gene_prediction", split) == {"stalign", "untrained", "image", "constant"}
        rows = read_results(run / "results.json")
        assert {row.slide for row in rows if row.split == split} == {slide, ALL}
    added = {f"figures/tiny_{slide}-{kind}-test.png" for slide in (2, 3) for kind in ("domains", "genes")}
    assert written(run) == FIT_FILES | added | {"table.txt"}
    assert (run / "config.yaml").read_text() == config
    assert json.loads((run / "provenance.json").read_text())["vocabulary_digest"]


def test_validate_repeats_the_epoch_it_was_saved_in(
    own: Path, tiny_shards: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = own / "tiny"
    pictures = {path.name: path.read_bytes() for path in (run / "figures").iterdir()}
    assert run_here(*arguments("validate", tiny_shards, own, *QUICK, "--ckpt_path", "last")) == 0
    assert "validate  val/ari" in capsys.readouterr().out
    assert {name: (run / "figures" / name).read_bytes() for name in pictures} == pictures
    last = [row for row in logged(run) if "val/gene_mse" in row][-1]
    rows = read_results(run / "results.json")
    found = {row.metric: row.mean for row in rows if row.row == "stalign" and row.slide == "tiny_2"}
    assert found["mse"] == pytest.approx(float(last["val/gene_mse"]), rel=1e-5)


def test_predict_writes_slides_that_scanpy_opens_and_plots(own: Path, tiny_shards: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    import scanpy as sc

    assert run_here(*arguments("predict", tiny_shards, own)) == 0
    folder = own / "tiny" / "predictions"
    assert sorted(path.name for path in folder.iterdir()) == ["tiny_2.h5ad", "tiny_3.h5ad"]
    source, slide = (sc.read_h5ad(path / "tiny_3.h5ad") for path in (tiny_shards, folder))
    assert (slide.X != source.X).nnz == 0
    assert list(slide.obs_names) == list(source.obs_names)
    for key in ("X_stalign_spot", "X_stalign_niche"):
        assert slide.obsm[key].shape == (64, 16)
        assert np.isfinite(slide.obsm[key]).all()
    predicted = np.isfinite(slide.layers["stalign_predicted"])
    assert predicted.any(axis=0).sum() == slide.uns["stalign"]["predicted_genes"] == 30
    assert (predicted.any(axis=0) == predicted.all(axis=0)).all()
    assert set(slide.obs["stalign_domain"]) == {"domain1", "domain2", "domain3"}
    assert slide.uns["stalign"]["checkpoint"].endswith("best.ckpt")
    sc.pl.embedding(slide, basis="spatial", color="stalign_domain", show=False)
    figure = plt.gcf()
    figure.canvas.draw()
    assert len(np.unique(np.asarray(figure.canvas.buffer_rgba()).reshape(-1, 4), axis=0)) > 10
    plt.close("all")


def test_wandb_goes_offline_without_a_login(tiny_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default, `auto`. That `off` writes nothing is part of test_fit_writes_exactly_its_files."""
    import wandb

    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))  # where a login would be
    given = arguments("fit", tiny_shards, tmp_path, *QUICK, "--trainer.max_epochs", "1", "--run.wandb", "auto")
    try:
        assert run_here(*given) == 0
    finally:
        wandb.finish()
    run = tmp_path / "tiny"
    identity = (run / "wandb_id.txt").read_text().strip()
    (kept,) = (run / "wandb").glob("offline-run-*")
    assert (kept / f"run-{identity}.wandb").stat().st_size > 0
