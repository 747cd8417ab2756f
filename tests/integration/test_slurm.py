"""The sbatch scripts: their syntax, and that our commands take what they pass.

A script is run as it is, with `srun` and the interpreter replaced by two that write down what they are given; that
list of arguments then goes through the command's own parser.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from argparse import ArgumentError, ArgumentParser, Namespace
from pathlib import Path
from types import ModuleType

import pytest

from data_prep.cli import build as build_command
from data_prep.cli import check as check_command
from tests.support.paths import REPOSITORY

SCRIPTS = sorted([*REPOSITORY.glob("slurm/*.sbatch"), *REPOSITORY.glob("slurm/*.sh")])
JOB = {"SLURM_NNODES": "2", "SLURM_NTASKS_PER_NODE": "4", "SLURM_CPUS_PER_TASK": "3", "SLURM_JOB_ID": "1"}
RECORDER = """#!{python}
import json, sys
with open({log!r}, "a") as log:
    log.write(json.dumps(sys.argv[1:]) + "\\n")
"""
SRUN = """#!/usr/bin/env bash
while [[ $1 == --* ]]; do shift; done
exec "$@"
"""


def _executable(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


def _calls(tmp_path: Path, script: str, *arguments: str, **variables: str) -> list[list[str]]:
    """What the interpreter is called with when Slurm runs a script."""
    log = tmp_path / "calls"
    recorder = _executable(tmp_path / "recorder", RECORDER.format(python=sys.executable, log=str(log)))
    _executable(tmp_path / "srun", SRUN)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("SLURM_")},
        **JOB,
        **variables,
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "PYTHON": str(recorder),
        "SLURM_SUBMIT_DIR": str(REPOSITORY),
    }
    command = ["bash", str(REPOSITORY / "slurm" / script), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in log.read_text().splitlines()]


def _parse_by_stalign(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """`--print_config` parses everything and stops before anything is built."""
    from stalign_pl.cli.lightning import STAlignCLI

    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setattr(sys, "argv", ["stalign_pl", *arguments, "--print_config"])
    with pytest.raises(SystemExit) as stopped:
        STAlignCLI()
    assert stopped.value.code in (0, None)


def _parsed(module: ModuleType, arguments: list[str]) -> Namespace:
    parser = ArgumentParser(exit_on_error=False)
    module.add_arguments(parser)
    return parser.parse_args(arguments)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_syntax(script: Path) -> None:
    done = subprocess.run(["bash", "-n", str(script)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_there_are_the_four_scripts() -> None:
    names = ["data_prep.sbatch", "data_prep.sh", "evaluate.sbatch", "pretrain.sbatch"]
    assert [path.name for path in sorted(SCRIPTS)] == names


@pytest.mark.parametrize("script", [path for path in SCRIPTS if path.suffix == ".sbatch"], ids=lambda path: path.name)
def test_logs_are_named_after_job_and_number(script: Path) -> None:
    assert "#SBATCH --output=%x-%j.out\n" in script.read_text()


def test_an_array_task_builds_its_share(tmp_path: Path) -> None:
    calls = _calls(tmp_path, "data_prep.sbatch", "c.yaml", "shards/x", "16", SLURM_ARRAY_TASK_ID="5")
    (build,) = calls
    assert build[:3] == ["-m", "data_prep", "build"]
    options = _parsed(build_command, build[3:])
    assert (options.task, options.tasks, options.workers) == (5, 16, 3)
    assert (options.config, options.out) == (Path("c.yaml"), Path("shards/x"))


def test_the_last_job_builds_the_rest_and_checks(tmp_path: Path) -> None:
    build, check = _calls(tmp_path, "data_prep.sbatch", "c.yaml", "shards/x")
    options = _parsed(build_command, build[3:])
    assert (options.task, options.tasks) == (None, None)
    assert check[:3] == ["-m", "data_prep", "check"]
    assert _parsed(check_command, check[3:]).deep


def test_data_prep_submits_the_array_and_its_end(tmp_path: Path) -> None:
    log = tmp_path / "sbatch.log"
    _executable(tmp_path / "sbatch", f'#!/usr/bin/env bash\nprintf "%s\\n" "$*" >> {log}\necho "77;cluster"\n')
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    command = ["bash", str(REPOSITORY / "slurm" / "data_prep.sh"), "c.yaml", "shards/x", "4"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "array job 77 builds the slides, job 77 finishes shards/x\n")
    array, last = log.read_text().splitlines()
    assert array.split() == [
        *("--parsable", "--array=0-3", "--output=%x-%A_%a.out", "slurm/data_prep.sbatch", "c.yaml", "shards/x", "4")
    ]
    assert last.split() == ["--parsable", "--dependency=afterany:77", "slurm/data_prep.sbatch", "c.yaml", "shards/x"]


def test_pretraining_has_a_task_a_gpu_and_goes_on_from_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (call,) = _calls(tmp_path, "pretrain.sbatch", "configs/real.yaml", "--run.name", "again")
    assert call[:3] == ["-m", "stalign_pl", "fit"]
    pairs = dict(zip(call[3::2], call[4::2], strict=True))
    assert pairs == {
        "--config": "configs/real.yaml",
        "--ckpt_path": "last",
        "--trainer.num_nodes": "2",
        "--trainer.devices": "4",
        "--data.threads": "3",
        "--run.name": "again",
    }
    _parse_by_stalign(call[2:], monkeypatch)
    with pytest.raises((ArgumentError, AssertionError)):  # the parser does refuse what no command has
        _parse_by_stalign([*call[2:], "--trainer.no_such_option", "1"], monkeypatch)


def test_evaluation_tests_then_predicts_on_one_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = _calls(tmp_path, "evaluate.sbatch", "configs/paper.yaml", "--data.niche.k", "6")
    assert [call[2] for call in calls] == ["test", "predict"]
    for call in calls:
        pairs = dict(zip(call[3::2], call[4::2], strict=True))
        assert (pairs["--trainer.devices"], pairs["--trainer.num_nodes"], pairs["--data.niche.k"]) == ("1", "1", "6")
        _parse_by_stalign(call[2:], monkeypatch)


def test_a_failed_step_fails_the_job(tmp_path: Path) -> None:
    _executable(tmp_path / "srun", "#!/usr/bin/env bash\nexit 3\n")
    environment = {**os.environ, **JOB, "PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_SUBMIT_DIR": str(REPOSITORY)}
    for script in ("pretrain.sbatch", "evaluate.sbatch"):
        command = ["bash", str(REPOSITORY / "slurm" / script), "configs/real.yaml"]
        assert subprocess.run(command, env=environment, timeout=120, check=False).returncode == 3


def _pretrained(tmp_path: Path, srun: str) -> tuple[subprocess.Popen, Path]:
    """Start pretrain.sbatch with this for srun; the process, and where scontrol writes what it is given."""
    log = tmp_path / "scontrol.log"
    log.touch()
    _executable(tmp_path / "srun", f"#!/usr/bin/env bash\n{srun}\n")
    _executable(tmp_path / "scontrol", f'#!/usr/bin/env bash\necho "$*" >> {log}\n')
    environment = {**os.environ, **JOB, "PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_SUBMIT_DIR": str(REPOSITORY)}
    command = ["bash", str(REPOSITORY / "slurm" / "pretrain.sbatch"), "c.yaml"]
    return subprocess.Popen(command, env=environment), log


@pytest.mark.parametrize(("status", "requeued"), [(75, "requeue 1\n"), (0, ""), (1, ""), (137, "")])
def test_a_step_that_was_stopped_puts_the_job_back(status: int, requeued: str, tmp_path: Path) -> None:
    job, log = _pretrained(tmp_path, f"exit {status}")
    assert job.wait(timeout=120) == status
    assert log.read_text() == requeued


def test_a_job_that_slurm_ends_waits_for_its_step_and_does_not_come_back_by_itself(tmp_path: Path) -> None:
    """`scancel` and preemption send TERM to the batch shell too."""
    job, log = _pretrained(tmp_path, f"touch {tmp_path}/started; sleep 1; touch {tmp_path}/saved; exit 75")
    while not (tmp_path / "started").exists():
        time.sleep(0.02)
    job.send_signal(signal.SIGTERM)
    assert job.wait(timeout=120) == 75
    assert (tmp_path / "saved").exists()
    assert log.read_text() == ""


def test_the_tasks_are_signalled_before_the_limit() -> None:
    """`B:` would signal the batch shell alone."""
    assert "#SBATCH --signal=USR1@120\n" in (REPOSITORY / "slurm" / "pretrain.sbatch").read_text()
