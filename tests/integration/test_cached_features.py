"""Frozen encoders run once: the same training as without a cache, a cache that was made otherwise refused."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from stalign_pl.cli import cache_features as cache_features_command
from stalign_pl.data.features.file import open_features
from stalign_pl.data.shards.shard_set import ShardSet
from stalign_pl.models import ScGPT, TimmStream
from stalign_pl.runs.checkpoint_io import AtomicCheckpointIO
from tests.support.paths import SCGPT
from tests.support.runs import TINY, arguments, logged, run_apart, run_here
from tests.support.traced_backend import TRACED

FROZEN = (
    *("--model.model.init_args.spot_image.init_args.trains", "none"),
    *("--model.model.init_args.niche_image.init_args.trains", "none"),
)
STILL = (
    *("--data.augmentation.flips", "false", "--data.augmentation.zoom", "0", "--data.augmentation.shift", "0"),
    *("--data.augmentation.brightness", "0", "--data.augmentation.contrast", "0", "--data.augmentation.stain", "0"),
)
"""No augmentation: the plain view is what training shows."""

SHORT = (
    *("--trainer.num_sanity_val_steps", "0", "--trainer.limit_val_batches", "0", "--trainer.max_steps", "6"),
    *("--checkpoint.monitor", "null", "--checkpoint.save_top_k", "0"),
)


def make(shards: Path, out: Path, *more: str) -> int:
    given = ("--config", str(TINY), "--data.shards", str(shards), "--out", str(out), *FROZEN, *more)
    return run_here("cache-features", *given)


def fit(shards: Path, folder: Path, *more: str) -> int:
    return run_here(*arguments("fit", shards, folder, *FROZEN, *more))


@pytest.fixture(scope="module")
def plain(tiny_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both image streams of all three slides, without augmented views. Copy it to write in it."""
    out = tmp_path_factory.mktemp("features") / "plain"
    assert make(tiny_shards, out) == 0
    return out


@pytest.fixture(scope="module")
def viewed(tiny_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The niche image stream with two augmented views."""
    out = tmp_path_factory.mktemp("features") / "viewed"
    assert make(tiny_shards, out, "--views", "2", "--streams", "niche_image") == 0
    return out


def test_losses_are_those_without(
    tiny_shards: Path, plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Training, evaluation and the untrained floors; with a cache no picture reaches an encoder."""
    assert fit(tiny_shards, tmp_path / "without", *STILL) == 0
    shown: list[int] = []
    features = TimmStream.features

    def counted(self: TimmStream, image: object) -> torch.Tensor:
        shown.append(isinstance(image, torch.Tensor))
        return features(self, image)

    monkeypatch.setattr(TimmStream, "features", counted)
    assert fit(tiny_shards, tmp_path / "cached", *STILL, "--data.features", str(plain)) == 0
    assert len(shown) > 16
    assert not any(shown)
    assert capsys.readouterr().out.count("without augmentation: they have one view") == 2
    expected, found = (logged(tmp_path / name / "tiny") for name in ("without", "cached"))
    assert len(expected) == len(found) > 8
    for column in ("train/loss", "train/loss_spot", "train/loss_niche", "train/loss_cross"):
        first, second = ([float(row[column]) for row in rows if column in row] for rows in (expected, found))
        assert len(set(first)) == 8
        assert second == pytest.approx(first, abs=1e-5)
    for column in ("val/gene_mse", "val/ari"):
        first, second = ([float(row[column]) for row in rows if column in row] for rows in (expected, found))
        assert len(first) == 2
        assert second == pytest.approx(first, abs=1e-3)


def test_compiled_training_test_and_predict_read_them_too(tiny_shards: Path, plain: Path, tmp_path: Path) -> None:
    given = ("--data.features", str(plain))
    compiled = ("--model.execution", f"{{compile: true, backend: {TRACED}, channels_last: true}}")
    assert fit(tiny_shards, tmp_path, *given, *compiled, "--trainer.max_epochs", "1") == 0
    for command in ("test", "predict"):
        assert run_here(*arguments(command, tiny_shards, tmp_path, *FROZEN, *given)) == 0
    assert len(list((tmp_path / "tiny" / "predictions").glob("*.h5ad"))) == 2


def test_a_resumed_run_ends_alike_and_micro_batches_fit(
    tiny_shards: Path, viewed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Views by spot and epoch: nothing has to be saved. In micro-batches of 4, whose rows are cut from features."""
    given = (*SHORT, "--data.features", str(viewed), "--model.micro_batch", "4")
    given += ("--last_checkpoint.every_n_train_steps", "1")
    save, stopped = AtomicCheckpointIO.save_checkpoint, tmp_path / "stopped"

    def save_and_copy(
        self: AtomicCheckpointIO, checkpoint: dict[str, Any], path: str | Path, storage_options: object = None
    ) -> None:
        save(self, checkpoint, path, storage_options)
        if checkpoint["global_step"] == 5 and not stopped.exists():
            shutil.copytree(tmp_path / "whole", stopped)

    with monkeypatch.context() as patch:
        patch.setattr(AtomicCheckpointIO, "save_checkpoint", save_and_copy)
        assert fit(tiny_shards, tmp_path / "whole", *given) == 0
    moved = tmp_path / "features"
    shutil.copytree(viewed, moved)
    assert fit(tiny_shards, stopped, *given, "--data.features", str(moved), "--ckpt_path", "last") == 0
    expected, found = (
        torch.load(folder / "tiny" / "checkpoints" / "last.ckpt", weights_only=True)
        for folder in (tmp_path / "whole", stopped)
    )
    assert found["global_step"] == expected["global_step"] == 6
    assert all(torch.equal(found["state_dict"][key], value) for key, value in expected["state_dict"].items())


def test_a_cache_may_not_end_augmentation_on_the_way(
    tiny_shards: Path, plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    given = (*SHORT, "--last_checkpoint.every_n_train_steps", "1")
    assert fit(tiny_shards, tmp_path, *given) == 0
    assert fit(tiny_shards, tmp_path, *given, "--ckpt_path", "last", "--data.features", str(plain)) == 1
    said = capsys.readouterr().err
    assert (
        "cached views in place of augmentation (data.features) was {}, is {'spot_image': 0, 'niche_image': 0}" in said
    )


def test_two_processes_train_what_one_does(tiny_shards: Path, viewed: Path, tmp_path: Path) -> None:
    given = (*SHORT, "--data.features", str(viewed))
    assert fit(tiny_shards, tmp_path / "one", *given) == 0
    two = ("--trainer.devices", "2", "--trainer.strategy", "ddp")
    run_apart(*arguments("fit", tiny_shards, tmp_path / "two", *FROZEN, *given, *two))
    one, two = ([float(row["train/loss"]) for row in logged(tmp_path / name / "tiny")] for name in ("one", "two"))
    assert len(set(one)) == 6
    assert two == pytest.approx(one, abs=1e-4)


def test_views_differ_and_come_out_the_same_again(tiny_shards: Path, viewed: Path, tmp_path: Path) -> None:
    """P1's slide is trained on: three views; the others only have the plain one."""
    assert make(tiny_shards, tmp_path, "--views", "2", "--streams", "niche_image", "--data.seed", "5") == 0
    for number, slide in enumerate(ShardSet(tiny_shards).slides.values()):
        name = f"{slide.record.stem}.niche_image.h5"
        first, second = (open_features(folder / name) for folder in (viewed, tmp_path))
        assert first.values.shape[:2] == (3 if number == 0 else 1, 64)
        np.testing.assert_array_equal(first.values, second.values)
        with h5py.File(viewed / name) as file:
            np.testing.assert_array_equal(file["features"][()], first.values)
    view = open_features(viewed / "tiny_1.niche_image.h5").values
    apart = [np.abs(view[a] - view[b]).mean(axis=1) for a, b in ((0, 1), (0, 2), (1, 2))]
    assert min(float(distance.min()) for distance in apart) > 0


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        (("--data.niche_size", "48", "--model.model.init_args.niche_image.init_args.size", "48"), "data.niche_size"),
        (("--data.niche.k", "4"), "data.niche.k was 3, is 4"),
        (("--data.niche.image", "view"), "data.niche.image was box, is view"),
        (("--data.stain", "none"), "colours by data.stain"),
        (("--data.augmentation.zoom", "0.2"), "data.augmentation.zoom was 0.1, is 0.2"),
        (("--seed_everything", "4"), "encoder's weights"),
        (("--model.model.init_args.niche_image.init_args.name", "test_convnext"), "encoder's architecture"),
        (("--model.model.init_args.niche_image.init_args.trains", "all"), "no niche_image features|no features of"),
    ],
)
def test_stale_features_are_refused(
    tiny_shards: Path, viewed: Path, tmp_path: Path, capsys: pytest.CaptureFixture, changed: tuple, named: str
) -> None:
    assert fit(tiny_shards, tmp_path, "--data.features", str(viewed), *changed) == 1
    said = capsys.readouterr().err
    assert any(part in said for part in named.split("|"))
    assert "cache-features --config CONFIG --out" in said
    assert not (tmp_path / "tiny" / "checkpoints").exists()


def test_features_of_other_shards_are_refused(
    tiny_shards: Path, viewed: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """One checksum of one slide's files is another: the slide was built again."""
    shards = tmp_path / "set"
    shutil.copytree(tiny_shards, shards)
    digest = next(iter(ShardSet(shards).slides.values())).record.files["tiny_1.tar"]["sha256"]
    for path in (shards / "manifest.json", shards / "tiny_1.json"):
        path.write_text(path.read_text().replace(digest, f"00{digest[2:]}"))
    assert fit(shards, tmp_path, "--data.features", str(viewed), "--data.verify", "false") == 1
    said = capsys.readouterr().err
    assert "shards' files was" in said
    assert "tiny_1.niche_image.h5" in said


def test_a_killed_run_goes_on_with_what_is_missing(
    tiny_shards: Path, plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """In its second slide; a writer's rest lies about. Then the other slides alone are made, and anew what is stale."""
    out, features, encoded = tmp_path / "features", TimmStream.features, []

    def killed(self: TimmStream, image: torch.Tensor) -> torch.Tensor:
        encoded.append(len(image))
        if len(encoded) == 4:  # two streams a slide
            raise KeyboardInterrupt
        return features(self, image)

    with monkeypatch.context() as patch:
        patch.setattr(TimmStream, "features", killed)
        with pytest.raises(KeyboardInterrupt):
            make(tiny_shards, out)
    there = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    assert sorted(there) == ["tiny_1.niche_image.h5", "tiny_1.spot_image.h5"]
    (out / ".tiny_2.spot_image.h5.x.tmp").write_bytes(b"half")
    assert fit(tiny_shards, tmp_path, "--data.features", str(out)) == 1
    assert "has no spot_image features of tiny_2" in capsys.readouterr().err
    assert make(tiny_shards, out) == 0
    said = capsys.readouterr().out
    assert "3 slides (1 were there), 128 spots" in said
    assert "tiny_3, 64 spots: 2 of 2 slides" in said  # what a job's log shows in place of a bar
    assert {name: (out / name).stat().st_mtime_ns for name in there} == there
    assert {path.name for path in out.iterdir()} == {path.name for path in plain.iterdir()}
    for path in plain.iterdir():
        np.testing.assert_array_equal(open_features(path).values, open_features(out / path.name).values)
    assert make(tiny_shards, out, "--data.stain", "none") == 0
    assert "3 slides (0 were there)" in capsys.readouterr().out


def test_another_process_that_makes_the_same_is_named(
    tiny_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """It sweeps the folder of what it takes for a killed writer's rest."""
    features = TimmStream.features

    def meanwhile(self: TimmStream, image: torch.Tensor) -> torch.Tensor:
        for path in tmp_path.glob(".*.tmp"):
            path.unlink()
        return features(self, image)

    monkeypatch.setattr(TimmStream, "features", meanwhile)
    assert make(tiny_shards, tmp_path, "--batch", "8") == 1
    assert "tiny_1 is gone, as when another process makes the same features" in capsys.readouterr().err


def test_a_tar_that_is_missing_is_named(tiny_shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    shards = Path(shutil.copytree(tiny_shards, tmp_path / "set"))
    (shards / "tiny_2.tar").unlink()
    assert make(shards, tmp_path / "features", "--data.stain", "none") == 1
    said = capsys.readouterr().err
    assert "tiny_2.tar" in said
    assert "another process" not in said


def test_a_damaged_file_is_made_anew(
    tiny_shards: Path, plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = Path(shutil.copytree(plain, tmp_path / "features"))
    damaged = out / "tiny_2.niche_image.h5"
    content = damaged.read_bytes()
    place = content.index(open_features(damaged).values[0, 9].tobytes())
    for wrong, refused, made in (
        (content[:5000], f"{damaged} is not a file of cached features", "cannot be read as features, and is made anew"),
        (
            content[:place] + b"?" + content[place + 1 :],
            f"{damaged} is damaged: the features of spot 9 are not",
            "is damaged, 1 of its features are not what was written; it is made anew",
        ),
    ):
        damaged.write_bytes(wrong)
        assert fit(tiny_shards, tmp_path, "--data.features", str(out)) == 1
        said = capsys.readouterr().err
        assert refused in said
        assert "python -m stalign_pl cache-features --config CONFIG --out" in said
        assert make(tiny_shards, out) == 0
        said = capsys.readouterr().out
        assert f"{damaged} {made}" in said
        assert "3 slides (2 were there), 64 spots" in said
    np.testing.assert_array_equal(open_features(damaged).values, open_features(plain / damaged.name).values)


def test_two_devices_share_the_slides(
    tiny_shards: Path, plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """One task each, here one after the other."""
    made: list[set[str]] = []

    class Task:
        def __init__(self, command: list[str]) -> None:
            self.status = run_here(*command[3:])
            made.append({path.name for path in tmp_path.glob("*.h5")})

        def wait(self) -> int:
            return self.status

    monkeypatch.setattr(cache_features_command, "subprocess", SimpleNamespace(Popen=Task))
    assert make(tiny_shards, tmp_path, "--devices", "2") == 0
    assert len(made[0]) == 4  # two slides of two streams
    assert made[1] == {path.name for path in plain.glob("*.h5")}
    assert "task 1 of 2" in capsys.readouterr().out
    assert make(tiny_shards, tmp_path, "--devices", "2", "--data.shards", "nowhere") == 1
    assert "tasks 0, 1 of 2 failed" in capsys.readouterr().err


def test_a_damaged_sample_stays_left_out(tiny_shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Its bytes are not looked at again when both pictures are cached: the cache knows."""
    shards, out = tmp_path / "set", tmp_path / "features"
    shutil.copytree(tiny_shards, shards)
    slide = next(iter(ShardSet(shards).slides.values()))
    with (shards / "tiny_1.tar").open("r+b") as tar:
        tar.seek(int(slide.column("niche_offset")[5]) + 40)
        tar.write(b"\0" * 16)
    assert make(shards, out) == 0
    assert "1 samples are damaged" in capsys.readouterr().out
    assert np.flatnonzero(~open_features(out / "tiny_1.niche_image.h5").valid).tolist() == [5]
    given = (*SHORT, *STILL, "--data.bad_samples", "1", "--trainer.max_steps", "8")
    assert fit(shards, tmp_path / "without", *given) == 0
    assert fit(shards, tmp_path / "cached", *given, "--data.features", str(out)) == 0
    first, second = (
        [float(row["train/loss"]) for row in logged(tmp_path / name / "tiny") if "train/loss" in row]
        for name in ("without", "cached")
    )
    assert second == pytest.approx(first, abs=1e-5)


def test_gene_features_are_scgpts(
    tiny_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """A small scGPT in both gene streams; with a cache it is never run."""
    folder, overlay, out = tmp_path / "scgpt", tmp_path / "scgpt.yaml", tmp_path / "features"
    shutil.copytree(SCGPT, folder)
    vocabulary = json.loads((folder / "vocab.json").read_text())
    renamed = {re.sub(r"^G(\d+)$", r"GENE\1", name): token for name, token in vocabulary.items()}
    (folder / "vocab.json").write_text(json.dumps(renamed))
    torch.save(load_file(folder / "weights.safetensors"), folder / "best_model.pt")
    stream = f"{{class_path: stalign_pl.models.ScGPT, init_args: {{folder: {folder}}}}}"
    overlay.write_text(f"model: {{model: {{init_args: {{spot_gene: {stream}, niche_gene: {stream}}}}}}}\n")
    given = (*SHORT, *STILL, "--config", str(overlay))
    assert make(tiny_shards, out, "--config", str(overlay), "--streams", "spot_gene,niche_gene") == 0
    assert fit(tiny_shards, tmp_path / "without", *given) == 0
    with monkeypatch.context() as patch:
        patch.setattr(ScGPT, "sequence", None)
        assert fit(tiny_shards, tmp_path / "cached", *given, "--data.features", str(out)) == 0
    first, second = (
        [float(row["train/loss"]) for row in logged(tmp_path / name / "tiny")] for name in ("without", "cached")
    )
    assert len(set(first)) == 6
    assert second == pytest.approx(first, abs=1e-5)
    for changed, named in (
        (("--data.niche.leave_target_out", "true"), "data.niche.leave_target_out was False, is True"),
        (("--data.niche.even_depth", "true"), "data.niche.even_depth was not asked for, is True"),
        (("--data.genes.n", "29"), "genes was"),
    ):
        assert fit(tiny_shards, tmp_path / "other", *given, "--data.features", str(out), *changed) == 1
        assert named in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--streams", "spot_genes"), "known: spot_image, spot_gene, niche_image, niche_gene"),
        (("--streams", "spot_gene"), "--streams names spot_gene, which has no frozen encoder"),
        (("--task", "2", "--tasks", "2"), "it is 0 to 1"),
        (("--tasks", "0", "--task", "0"), "--tasks is 0; it must be at least 1"),
        (("--streams", ","), "--streams names none; known: spot_image"),
        (("--views", "-1"), "--views is -1"),
        (("--out", str(TINY)), f"the folder of the features, {TINY}, is a file"),
    ],
)
def test_wrong_options_are_refused(
    tiny_shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture, options: tuple, said: str
) -> None:
    assert make(tiny_shards, tmp_path, *options) == 1
    assert said in capsys.readouterr().err
