"""A set built by several tasks at once is the set that one build makes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from data_prep.build.build import Share, build
from data_prep.build.config import BuildConfig, SourceEntry
from data_prep.cli.main import main
from stalign_pl.errors import ConfigError, ShardError
from stalign_pl.shard_format import Manifest
from tests.support.paths import REPOSITORY


def _call(cohort: Path, out: Path, *more: str) -> list[str]:
    return ["build", "--source", "space_ranger", "--input", str(cohort), "--out", str(out), "--workers", "1", *more]


def test_tasks_at_once_then_one_build_give_the_same_set(tiny_cohort: Path, tiny_shards: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    tasks = [
        subprocess.Popen(
            [sys.executable, "-m", "data_prep", *_call(tiny_cohort, out, "--task", str(task), "--tasks", "2")],
            cwd=REPOSITORY,
        )
        for task in range(2)
    ]
    assert [task.wait() for task in tasks] == [0, 0]
    assert not (out / "manifest.json").exists()
    assert main(_call(tiny_cohort, out)) == 0
    ours, theirs = Manifest.read(out), Manifest.read(tiny_shards)
    assert ours.gene_table == theirs.gene_table
    assert [(slide.number, slide.name) for slide in ours.slides] == [
        (slide.number, slide.name) for slide in theirs.slides
    ]
    for slide in ours.slides:
        for name in (*slide.tars, slide.counts, slide.index, "genes.tsv"):
            assert (out / name).read_bytes() == (tiny_shards / name).read_bytes()


def test_a_share_takes_every_nth_slide_and_the_last_build_only_what_is_missing(
    tiny_cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "set"
    assert main(_call(tiny_cohort, out, "--task", "0", "--tasks", "2")) == 0
    assert sorted(path.name for path in out.glob("*.tar")) == ["tiny_1.tar", "tiny_3.tar"]
    assert "task 0 of 2: no manifest yet" in capsys.readouterr().out
    assert main(_call(tiny_cohort, out)) == 0
    assert "3 slides (2 were there)" in capsys.readouterr().out
    assert main(["check", str(out), "--deep"]) == 0


def test_more_tasks_than_slides_is_no_error(tiny_cohort: Path, tmp_path: Path) -> None:
    assert main(_call(tiny_cohort, tmp_path / "set", "--task", "4", "--tasks", "5")) == 0


@pytest.mark.parametrize(("task", "tasks"), [(2, 2), (-1, 2), (0, 0)])
def test_a_task_outside_its_range_is_refused(task: int, tasks: int) -> None:
    with pytest.raises(ConfigError, match=f"task is {task} of {tasks} tasks"):
        Share(task, tasks)


def test_task_without_tasks_is_a_wrong_call(
    tiny_cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(_call(tiny_cohort, tmp_path / "set", "--task", "0")) == 2
    assert "--task and --tasks go together" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["[]", "null", "{", '{"settings": 1}'])
def test_a_damaged_plan_is_named(tiny_cohort: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(ShardError, match=r"plan\.json is damaged, so the set cannot be added to"):
        build(BuildConfig(sources=(SourceEntry("space_ranger", tiny_cohort),)), tmp_path)
