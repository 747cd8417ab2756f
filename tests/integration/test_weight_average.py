"""The average of the weights: a recursion over every step's; training does not see it, evaluation does."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from lightning import LightningModule, Trainer
from torch import nn

from stalign_pl.callbacks import EmaConfig, WeightAverage
from stalign_pl.errors import ConfigError
from stalign_pl.runs.checkpoint_io import AtomicCheckpointIO
from tests.support.micro_batches import BARE, checkpoint
from tests.support.poisoned_run import column, poisoned
from tests.support.runs import QUICK, arguments, logged, run_here

DECAY, START, SKIPPED = 0.6, 3, 5
EMA = ("--ema.decay", str(DECAY), "--ema.start", str(START))
STREAM = "--model.model.init_args.{}.init_args"
BATCHNORM = (f"{STREAM.format('niche_image')}.name", "test_efficientnet", "--trainer.deterministic", "false")


@dataclass
class Whole:
    """A run of eight steps with a skipped one, frozen weights from a file and BatchNorm in training."""

    folder: Path
    options: tuple[str, ...]
    at_step: dict[int, dict]
    stopped: Path


@pytest.fixture(scope="module")
def whole(tiny_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    folder = tmp_path_factory.mktemp("averaged")
    torch.save(timm.create_model("test_vit", num_classes=0, img_size=32).state_dict(), folder / "vit.pth")
    stream = STREAM.format("spot_image")
    frozen = (f"{stream}.name", "test_vit", f"{stream}.trains", "none", f"{stream}.weights", str(folder / "vit.pth"))
    options = (*BARE, *BATCHNORM, *frozen, *poisoned(SKIPPED), "--last_checkpoint.every_n_train_steps", "1")
    states: dict[int, dict] = {}
    save = AtomicCheckpointIO.save_checkpoint

    def keep(
        self: AtomicCheckpointIO, checkpoint: dict[str, Any], path: str | Path, storage_options: object = None
    ) -> None:
        save(self, checkpoint, path, storage_options)
        states[checkpoint["global_step"]] = torch.load(path, weights_only=True)
        if checkpoint["global_step"] == SKIPPED:
            shutil.copytree(folder / "run", folder / "stopped", dirs_exist_ok=True)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AtomicCheckpointIO, "save_checkpoint", keep)
        assert run_here(*arguments("fit", tiny_shards, folder / "run", *options, *EMA)) == 0
    return Whole(folder / "run", options, states, folder / "stopped")


def test_the_average_is_the_recursion_over_the_weights_of_each_step(whole: Whole) -> None:
    assert sorted(whole.at_step) == list(range(1, 9))
    assert column(whole.folder, "train/skipped_steps")[-1] == 1
    average: dict[str, torch.Tensor] = {}
    for step in sorted(whole.at_step):
        weights = whole.at_step[step]["current_model_state"]
        for key, value in weights.items():
            moved = step > START and value.is_floating_point()
            average[key] = DECAY * average[key] + (1 - DECAY) * value if moved else value
        saved = whole.at_step[step]["state_dict"]
        assert saved.keys() == weights.keys()
        floating = {key: value for key, value in saved.items() if value.is_floating_point()}
        torch.testing.assert_close(floating, {key: average[key] for key in floating}, rtol=1e-5, atol=1e-6)
    assert sum(not torch.equal(weights[key], saved[key]) for key in saved) > 20
    assert any("running_mean" in key for key in saved)
    assert all(value.isfinite().all() for value in floating.values())


def test_frozen_weights_are_in_no_part_of_a_checkpoint(whole: Whole) -> None:
    for part in ("state_dict", "current_model_state"):
        kept = [key for key in whole.at_step[8][part] if key.startswith("model.spot_image.")]
        assert kept
        assert not [key for key in kept if ".backbone." in key]


def test_frozen_weights_are_shared_and_others_copied() -> None:
    module, callback = LightningModule(), WeightAverage(EmaConfig(0.9))
    module.frozen, module.learning = nn.Linear(2, 2).requires_grad_(False), nn.Linear(2, 2)
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    callback.setup(trainer, module, "fit")
    callback.on_fit_start(trainer, module)
    average = callback._average_model.module
    assert average.frozen.weight.data_ptr() == module.frozen.weight.data_ptr()
    assert average.learning.weight.data_ptr() != module.learning.weight.data_ptr()


def test_training_does_not_see_the_average(whole: Whole, tiny_shards: Path, tmp_path: Path) -> None:
    assert run_here(*arguments("fit", tiny_shards, tmp_path, *whole.options)) == 0
    plain = checkpoint(tmp_path)
    assert "current_model_state" not in plain
    weights = whole.at_step[8]["current_model_state"]
    assert plain["state_dict"].keys() == weights.keys()
    assert all(torch.equal(weights[key], value) for key, value in plain["state_dict"].items())


def same(one: dict, other: dict) -> bool:
    parts = ("state_dict", "current_model_state", "averaging_state")
    return all(torch.equal(one[part][key], value) for part in parts for key, value in other[part].items())


def test_a_resumed_run_ends_bit_for_bit_alike(
    whole: Whole, tiny_shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From within the second epoch, after averaging began, before the step that is skipped."""
    shutil.copytree(whole.stopped, tmp_path, dirs_exist_ok=True)
    assert checkpoint(tmp_path)["global_step"] == SKIPPED
    skipped = (*poisoned(0), "--run.allow_changes", "true")  # the resumed process's first call
    assert (
        run_here(*arguments("fit", tiny_shards, tmp_path, *whole.options, *skipped, *EMA, "--ckpt_path", "last")) == 0
    )
    assert "the plan: epoch 1: " in capsys.readouterr().out
    assert same(checkpoint(tmp_path), whole.at_step[8])


def test_without_the_average_a_run_goes_on_from_the_weights(whole: Whole, tiny_shards: Path, tmp_path: Path) -> None:
    shutil.copytree(whole.stopped, tmp_path, dirs_exist_ok=True)
    skipped = (*poisoned(0), "--run.allow_changes", "true")
    assert run_here(*arguments("fit", tiny_shards, tmp_path, *whole.options, *skipped, "--ckpt_path", "last")) == 0
    weights = whole.at_step[8]["current_model_state"]
    assert all(torch.equal(weights[key], value) for key, value in checkpoint(tmp_path)["state_dict"].items())


def test_evaluation_is_of_the_average(tiny_shards: Path, tmp_path: Path) -> None:
    """In `fit` and of its checkpoint: as `validate` finds them after, and with the weights in its place it does not."""
    given = (*QUICK, "--trainer.max_epochs", "1", "--trainer.num_sanity_val_steps", "0", "--ema.decay", "0.9")
    run = tmp_path / "tiny"
    assert run_here(*arguments("fit", tiny_shards, tmp_path, *given)) == 0
    (during,) = [float(row["val/gene_mse"]) for row in logged(run) if "val/gene_mse" in row]

    def validated() -> float:
        metrics = {}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                "stalign_pl.callbacks.evaluation_pass.merge_results",
                lambda _, rows, *__: metrics.update({row.metric: row.mean for row in rows if row.row == "stalign"}),
            )
            assert run_here(*arguments("validate", tiny_shards, tmp_path, *given, "--ckpt_path", "best")) == 0
        return metrics["mse"]

    assert validated() == pytest.approx(during, rel=1e-5)
    path = run / "checkpoints" / "best.ckpt"
    saved = torch.load(path, weights_only=True)
    torch.save({**saved, "state_dict": saved["current_model_state"]}, path)
    assert validated() != pytest.approx(during, rel=1e-5)


def test_a_checkpoint_of_weights_alone_is_refused(
    tiny_shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = (*BARE, *EMA, "--checkpoint.save_weights_only", "true")
    assert run_here(*arguments("fit", tiny_shards, tmp_path, *given)) == 1
    assert "checkpoint.save_weights_only with ema.decay" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", [{"decay": 1.0}, {"decay": 0.0}, {"decay": 0.9, "start": 0}])
def test_settings_that_average_nothing_are_refused(wrong: dict) -> None:
    with pytest.raises(ConfigError, match="ema"):
        EmaConfig(**wrong)
