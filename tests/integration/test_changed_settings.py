"""A run that goes on with other settings than it began with: refused by name, or taken over and recorded."""

from __future__ import annotations

import inspect
import json
import shutil
from pathlib import Path

import pytest
from lightning import Trainer
from omegaconf import OmegaConf

from stalign_pl.runs.changes import FREE, TRAINER_DECIDES
from tests.support.probes import probe
from tests.support.runs import arguments, logged, run_here
from tests.support.uninterrupted import OPTIONS, STEPS_AN_EPOCH, Uninterrupted, assert_same_end, weights

OTHER = ("--model.optimizer.lr", "0.002", "--trainer.max_epochs", "3")


@pytest.fixture
def run(uninterrupted: Uninterrupted, tmp_path: Path) -> Path:
    """A run stopped at step 6 of 8."""
    return Path(shutil.copytree(uninterrupted.at_step[6], tmp_path / "tiny"))


def test_what_decides_the_result_is_refused_by_name(
    run: Path, tiny_shards: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    given = arguments("fit", tiny_shards, run.parent, *OPTIONS, *OTHER)
    for name in ("last", "best", str(run / "checkpoints" / "last.ckpt")):
        assert run_here(*given, "--ckpt_path", name) == 1
        line = capsys.readouterr().err.splitlines()[-1]
        for text in ("model.optimizer.lr was 0.001, is 0.002", "trainer.max_epochs was 2, is 3", "run.allow_changes"):
            assert text in line
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_allowed_changes_are_taken_over_printed_and_recorded(
    run: Path, tiny_shards: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = arguments("fit", tiny_shards, run.parent, *OPTIONS, *OTHER, "--ckpt_path", "last")
    assert run_here(*given, "--run.allow_changes", "true") == 0
    printed = capsys.readouterr().out
    assert "changed at step 6: model.optimizer.lr was 0.001, is 0.002" in printed
    (entry,) = json.loads((run / "changes.json").read_text())
    assert entry["step"] == 6
    assert entry["changes"] == [
        {"key": "model.optimizer.lr", "old": 0.001, "new": 0.002},
        {"key": "trainer.max_epochs", "old": 2, "new": 3},
    ]
    assert OmegaConf.load(run / "config.yaml").model.optimizer.lr == 0.002
    assert [row["step"] for row in logged(run) if "train/loss" in row][-1] == str(3 * STEPS_AN_EPOCH - 1)
    assert run_here(*given) == 0  # they are the run's own now


def test_where_the_shards_lie_is_free_and_what_they_hold_is_not(
    run: Path, uninterrupted: Uninterrupted, tiny_shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere = Path(shutil.copytree(tiny_shards, tmp_path / "elsewhere"))
    again = Path(shutil.copytree(run, tmp_path / "again" / "tiny"))
    given = [*OPTIONS, "--ckpt_path", "last", "--data.threads", "2", "--last_checkpoint.minutes", "1"]
    assert run_here(*arguments("fit", elsewhere, run.parent, *given)) == 0
    assert_same_end(run, uninterrupted.run)
    manifest = json.loads((elsewhere / "manifest.json").read_text())
    name = next(name for name in manifest["slides"][0]["files"] if name.endswith(".h5ad"))
    manifest["slides"][0]["files"][name]["sha256"] = "0" * 64
    (elsewhere / "manifest.json").write_text(json.dumps(manifest))
    capsys.readouterr()
    assert run_here(*arguments("fit", elsewhere, again.parent, *given)) == 1
    assert "the content of data.shards or data.clusters was " in capsys.readouterr().err.splitlines()[-1]
    assert run_here(*arguments("fit", elsewhere, again.parent, *given, "--run.allow_changes", "true")) == 0


def test_a_run_that_another_process_took_over_writes_nothing_more(
    tiny_shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = arguments("fit", tiny_shards, tmp_path, *OPTIONS, *probe("TakenOver", step=3))
    assert run_here(*given) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert f"{tmp_path / 'tiny'} was taken over by process " in line
    assert "writes nothing more" in line
    run = tmp_path / "tiny"
    assert [row["step"] for row in logged(run) if "train/loss" in row] == ["0", "1"]
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["last.ckpt"]
    assert weights(run)


def test_the_names_are_those_of_a_real_configuration(uninterrupted: Uninterrupted) -> None:
    """A key that was renamed would be free, or refused, without anybody noticing."""
    assert set(TRAINER_DECIDES) <= inspect.signature(Trainer.__init__).parameters.keys()
    config = OmegaConf.to_object(OmegaConf.load(uninterrupted.run / "config.yaml"))
    for key in FREE:
        place = config
        for part in key.split("."):
            assert part in place, key
            place = place[part]
