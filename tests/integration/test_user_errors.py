"""What a user can get wrong: one line on stderr that names the thing, an exit status that is not 0, no traceback."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import anndata
import pytest
import torch

from stalign_pl.cli.main import main
from tests.support.paths import TINY
from tests.support.runs import QUICK, arguments, run_here

Fails = Callable[..., str]


@pytest.fixture
def shards(tiny_shards: Path, tmp_path: Path) -> Path:
    """A shard set of one's own, to damage."""
    return Path(shutil.copytree(tiny_shards, tmp_path / "set"))


@pytest.fixture
def fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Fails:
    """Run a command that must fail; its error line."""

    def run(command: str, shards: Path, *more: str, folder: Path = tmp_path) -> str:
        status = run_here(*arguments(command, shards, folder, *QUICK, *more))
        printed = capsys.readouterr().err
        assert status in (1, 2), printed
        lines = [line for line in printed.splitlines() if line.startswith("stalign_pl: error: ")]
        assert len(lines) == 1, printed
        assert printed.splitlines()[-1] == lines[0]
        assert "Traceback" not in printed
        assert "usage:" not in printed
        return lines[0]

    return run


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (["--data.nonsense", "3"], ["--data.nonsense"]),
        (["--data.composition.slides", "many"], ["data.composition.slides", "many"]),
        (["--data.composition.slides", "0"], ["composition.slides is 0", "at least 1"]),
        (["--config", "nowhere.yaml"], ["nowhere.yaml"]),
        (["--data.shards", "nowhere"], ["there is no folder nowhere"]),
        (["--data.shards", "https://ann:SECRET@host/set?sig=SECRET"], ["https://host/set", "data.stage_to is null"]),
        (["--data.shards", "pipe:cat set/{}"], ["data.shards is pipe:cat ... set/{}", "data.stage_to is null"]),
        (["--data.val_patients", "[P9]"], ["data.val_patients", "'P9'", "P1, P2, P3"]),
        (["--data.val_patients", "[P2,P3]"], ["patient P3", "data.val_patients", "data.test_patients"]),
        (["--data.spot_size", "-3"], ["data.spot_size is -3"]),
        (["--data.niche.k", "7"], ["niche.k is 7", "niche.rings = 1", "6 at most"]),
        (["--run.name", ""], ["run.name is ''"]),
        (["--data.seed", "-1"], ["data.seed is -1", "at least 0"]),
        (["--seed_everything", "-1"], ["seed_everything is -1"]),
        (["--data.threads", "0"], ["data.threads is 0", "at least 1"]),
        (["--checkpoint.monitor", "val/ari", "--checkpoint.mode", "min"], ["val/ari", "checkpoint.mode: max"]),
        (["--checkpoint.monitor", "val/gene_mse", "--checkpoint.mode", "max"], ["gene_mse", "checkpoint.mode: min"]),
        (["--data.niche.rings", "9"], ["niche.rings", "9 rings", "hold"]),
        (["--data.stain", "reinhard"], ["data.stain is 'reinhard'", "slide, none"]),
        (
            ["--trainer.accumulate_grad_batches", "2"],
            ["accumulate_grad_batches is 2", "negatives", "data.composition", "model.micro_batch"],
        ),
        (["--model.micro_batch", "5"], ["model.micro_batch is 5", "16 rows", "4, 8"]),
        (
            [
                *("--model.micro_batch", "4", "--trainer.deterministic", "false"),
                *("--model.model.init_args.spot_image.init_args.name", "test_resnet"),
            ],
            ["model.micro_batch is 4", "BatchNorm", "spot_image", "GroupNorm"],
        ),
        (
            ["--model.model.init_args.niche_image.init_args.model_args", "{drop_path_rate: 0.1}"],
            ["trainer.deterministic", "niche_image", "drop_path_rate"],
        ),
        (["--non_finite.limit", "0"], ["non_finite.limit is 0", "at least 1"]),
        (["--data.augmentation.mask_genes", "1.5"], ["augmentation.mask_genes is 1.5", "[0, 1)"]),
        (["--spatial_domains.label", "layer"], ["tiny_2", "'layer'", "known: domain"]),
        (["--spatial_domains.oracle", "nowhere"], ["oracle", "nowhere/tiny_2/oracle.npz"]),
        (["--gene_prediction.genes", "[GENE1,TP53]"], ["TP53", "tiny_2"]),
        (["--gene_prediction.n_genes", "0"], ["gene_prediction", "n_genes is 0", "at least 1"]),
        (["--gene_prediction.coverage", "2"], ["gene_prediction.coverage is 2"]),
        (["--spatial_domains.seeds", "0"], ["spatial_domains.seeds is 0", "at least 1"]),
        (["--spatial_domains.smooth", "7"], ["spatial_domains.smooth is 7", "0 to 6"]),
        (["--data.spot_size", "48"], ["data.spot_size is 48", "spot_image takes pictures of 32 px"]),
        (["--model.model.init_args.dim", "0"], ["STAlign", "dim is 0", "at least 1"]),
        (["--model.model.init_args.niche_gene.init_args.heads", "0"], ["NicheGeneTransformer", "heads is 0"]),
        (["--model.model.init_args.fusion.init_args.heads", "0"], ["ABFN", "heads is 0"]),
        (["--data.split", "some.json"], ["data.split (some.json)", "data.val_patients, data.test_patients", "null"]),
        (["--data.fold", "P1"], ["data.fold is 'P1'", "data.split"]),
        (["--data.genes.detected", "2"], ["data.genes.detected is 2", "0 to 1"]),
        (["--data.genes.method", "seurat"], ["data.genes.method", "seurat", "variable"]),
        (["--data.genes.panel", "nowhere.txt"], ["data.genes.panel", "nowhere.txt"]),
        (["--data.genes.always", "[TP53]"], ["data.genes.always", "'TP53'"]),
        (["--ckpt_path", "nowhere.ckpt"], ["nowhere.ckpt", "best, last"]),
        (["--last_checkpoint.every_n_train_steps", "0"], ["last_checkpoint.every_n_train_steps is 0"]),
        (["--run.wandb", "online"], ["run.wandb is online", "wandb login"]),
        (["--checkpoint.monitor", "val/arI"], ["val/arI", "val/ari"]),
        (["--trainer.max_epochs", "-1"], ["trainer.max_epochs", "trainer.max_steps"]),
        (
            ["--model.model.init_args.spot_image.init_args.name", "test_resnet"],
            ["BatchNorm", "spot_image", "GroupNorm"],
        ),
        (["--model.model.init_args.spot_image.init_args.name", "resnet51"], ["resnet51", "resnet50"]),
    ],
    ids=lambda value: " ".join(value).removeprefix("--") if value[0].startswith("--") else "",
)
def test_a_wrong_setting_is_named(
    given: list[str], named: list[str], tiny_shards: Path, fails: Fails, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    line = fails("fit", tiny_shards, *given)
    for text in named:
        assert text in line


def test_a_set_of_another_format_version(shards: Path, fails: Fails) -> None:
    manifest = json.loads((shards / "manifest.json").read_text())
    (shards / "manifest.json").write_text(json.dumps({**manifest, "format_version": 99}))
    line = fails("fit", shards)
    assert "version 99" in line
    assert "reads version 2" in line


def test_a_label_column_of_one_class(shards: Path, fails: Fails) -> None:
    slide = anndata.read_h5ad(shards / "tiny_2.h5ad")
    slide.obs["domain"] = "core"
    slide.write_h5ad(shards / "tiny_2.h5ad")
    line = fails("fit", shards)
    for text in ("tiny_2", "domain", "core"):
        assert text in line


def test_a_truncated_tar(shards: Path, fails: Fails) -> None:
    """The colours are read off the first places of the tar; what is missing is met by the reading thread."""
    tar = shards / "tiny_1.tar"
    tar.write_bytes(tar.read_bytes()[: tar.stat().st_size * 9 // 10])
    line = fails("fit", shards, "--data.stain", "none", "--trainer.num_sanity_val_steps", "0")
    assert "tiny_1.tar is truncated" in line
    assert "data_prep check" in line


def test_a_global_batch_that_the_processes_cannot_share(tiny_shards: Path) -> None:
    from stalign_pl.data.epoch.plan import Composition, plan_training
    from stalign_pl.errors import ConfigError

    plan = plan_training({0: 64}, Composition(2, 8, 4), seed=0, epoch=0)
    with pytest.raises(ConfigError, match=r"16 spots does not divide by 3 processes; nearest that do: 15, 18"):
        plan.rows_of(0, 3)


@pytest.mark.parametrize("command", ["fit", "test", "predict"])
def test_a_checkpoint_of_another_vocabulary(command: str, trained: Path, tiny_shards: Path, fails: Fails) -> None:
    checkpoint = trained / "tiny" / "checkpoints" / "last.ckpt"
    line = fails(command, tiny_shards, "--data.genes.n", "20", "--ckpt_path", str(checkpoint))
    for text in ("vocabulary", "30 genes", "20 genes"):
        assert text in line


@pytest.mark.parametrize(("damage", "named"), [("cut", "cut off"), ("text", "cannot be read"), ("other", "of `fit`")])
def test_a_damaged_checkpoint(
    damage: str, named: str, trained: Path, tiny_shards: Path, fails: Fails, tmp_path: Path
) -> None:
    path = tmp_path / "damaged.ckpt"
    whole = (trained / "tiny" / "checkpoints" / "last.ckpt").read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if damage == "cut" else b"no checkpoint")
    if damage == "other":
        torch.save({"weights": torch.zeros(2)}, path)
    line = fails("test", tiny_shards, "--ckpt_path", str(path))
    assert "damaged.ckpt" in line
    assert named in line


def test_a_damaged_config_of_the_run(trained: Path, tiny_shards: Path, fails: Fails, tmp_path: Path) -> None:
    shutil.copytree(trained / "tiny", tmp_path / "tiny")
    (tmp_path / "tiny" / "config.yaml").write_text("model: [")
    assert "tiny/config.yaml is not YAML" in fails("test", tiny_shards, "--ckpt_path", "last")


@pytest.mark.parametrize(
    "given",
    [
        ["--data.genes.n", "20", "--ckpt_path", "last"],
        ["--trainer.accelerator", "gpu"],
        ["--data.spot_size", "0"],
        ["--data.features", "nowhere"],
        ["--ckpt_path", __file__],
        ["--run.wandb", "online"],
        ["--data.spot_size", "48"],
        ["--spatial_domains.label", "layer"],
        ["--gene_prediction.n_genes", "0"],
        ["--model.model.init_args.dim", "0"],
    ],
    ids=[
        *("refused checkpoint", "no such device", "wrong size", "no features", "no checkpoint", "no login"),
        *("another size", "no such label", "no genes", "model of no width"),
    ],
)
def test_a_fit_that_cannot_start_leaves_the_run_as_it_was(
    given: list[str], trained: Path, tiny_shards: Path, fails: Fails, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(trained / "tiny", tmp_path / "tiny"))
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    if "gpu" in given and torch.cuda.is_available():
        pytest.skip("this machine has a GPU: asking for one is no mistake")
    fails("fit", tiny_shards, *given)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_a_checkpoint_of_another_model(trained: Path, tiny_shards: Path, fails: Fails) -> None:
    checkpoint = trained / "tiny" / "checkpoints" / "last.ckpt"
    line = fails("test", tiny_shards, "--model.model.init_args.width", "8", "--ckpt_path", str(checkpoint))
    assert "another model" in line
    assert "model." in line


def test_test_without_a_run(tiny_shards: Path, fails: Fails) -> None:
    line = fails("test", tiny_shards)
    assert "no checkpoint best or last" in line
    assert "run `fit` first" in line


def test_test_without_test_patients(trained: Path, tiny_shards: Path, fails: Fails) -> None:
    line = fails("test", tiny_shards, "--data.test_patients", "[]", "--data.train_patients", "[P1]", folder=trained)
    assert "data.test_patients is empty" in line


def test_deterministic_takes_batchnorm_that_is_frozen(tiny_shards: Path, tmp_path: Path) -> None:
    stream = "--model.model.init_args.spot_image.init_args"
    given = [f"{stream}.name", "test_resnet", f"{stream}.trains", "none", "--trainer.max_steps", "1", *QUICK]
    assert run_here(*arguments("fit", tiny_shards, tmp_path, *given, "--checkpoint.monitor", "null")) == 0


def test_a_model_is_evaluated_as_it_was_trained(trained: Path, tiny_shards: Path, fails: Fails, tmp_path: Path) -> None:
    shutil.copytree(trained / "tiny", tmp_path / "tiny")
    line = fails("validate", tiny_shards, "--ckpt_path", "last", "--data.niche.k", "2", "--data.threads", "1")
    assert "data.niche.k was" in line
    assert "is 2" in line
    assert "threads" not in line


def test_an_unknown_command_is_answered_with_those_there_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for given, status in (["nonsense"], 2), (["--help"], 0), ([], 0):
        monkeypatch.setattr(sys, "argv", ["stalign_pl", *given])
        assert main() == status
        printed = "".join(capsys.readouterr())
        assert all(name in printed for name in ("fit", "plan", "clusters", "cache-features", "export"))


def test_the_plan_follows_the_one_seed(tiny_shards: Path, tmp_path: Path) -> None:
    for given, seed in (["--seed_everything", "5"], 5), (["--seed_everything", "5", "--data.seed", "7"], 7):
        more = ("--trainer.max_steps", "1", "--run.name", f"seed{seed}")
        assert run_here(*arguments("fit", tiny_shards, tmp_path, *QUICK, *given, *more)) == 0
        assert f"  seed: {seed}\n" in (tmp_path / f"seed{seed}" / "config.yaml").read_text()


@pytest.mark.parametrize(
    "given",
    [
        ["plan", "--shards"],
        ["genes", "--split", "split.json", "--out", "genes.tsv"],
        ["clusters", "--out", "clusters.json"],
        ["cache-features", "--config", str(TINY), "--out", "features", "--data.shards"],
        ["test", "--config", str(TINY), "--ckpt_path", "any.ckpt", "--data.shards"],
    ],
    ids=lambda given: given[0],
)
def test_a_remote_set_is_refused_where_there_is_no_place_to_fetch_it_to(
    given: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("any.ckpt").touch()
    assert run_here(*given, "https://ann:SECRET@host/set?sig=SECRET") == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert all(text in line for text in ("https://host/set", "not on this machine", "data.stage_to", "folder"))
    assert "SECRET" not in line
