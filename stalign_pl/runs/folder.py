"""A run's folder: which checkpoint a word means, and where an earlier run's files go when a new one starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from stalign_pl.errors import ConfigError

WORDS = ("best", "last")
"""What --ckpt_path knows besides a path."""

WRITTEN = (
    *("config.yaml", "changes.json", "metrics.csv", "results.json", "provenance.json", "table.txt", "genes.tsv"),
    *("wandb_id.txt", "writer.json", "checkpoints", "figures", "predictions"),
)
"""What a run writes into its folder, but for wandb's own folder, which keeps runs apart by itself."""


def find_checkpoint(asked: str | None, run: Path) -> Path:
    """Turn nothing (best, else last), `best` or `last` into a file of the run's folder; leave a path as it is.

    Raises:
        ConfigError: there is no such file.
    """
    if asked is not None and asked not in WORDS:
        if not Path(asked).is_file():
            raise ConfigError(f"--ckpt_path {asked}: no such file; known words: {', '.join(WORDS)}")
        return Path(asked)
    names = WORDS if asked is None else (asked,)
    folder = run / "checkpoints"
    for name in names:
        if (folder / f"{name}.ckpt").is_file():
            return folder / f"{name}.ckpt"
    raise ConfigError(f"no checkpoint {' or '.join(names)} in {folder}: run `fit` first, or name one by --ckpt_path")


def find_resume_point(asked: str | None, run: Path) -> Path | None:
    """The checkpoint that `fit` goes on from. `last` without one is a fresh start, so that a script may always say it.

    Raises:
        ConfigError: a path, or `best`, that is not there.
    """
    if asked is None:
        return None
    if asked == "last" and not (run / "checkpoints" / "last.ckpt").is_file():
        print(f"--ckpt_path last: no checkpoint in {run / 'checkpoints'} yet, starting afresh")
        return None
    return find_checkpoint(asked, run)


def goes_on(checkpoint: str | Path | None, run: Path) -> bool:
    """Whether a checkpoint is one of this run, so that training from it goes on with the run."""
    return checkpoint is not None and (run / "checkpoints").resolve() in Path(checkpoint).resolve().parents


def set_aside_earlier_run(run: Path) -> Path | None:
    """Move what an earlier run left into `<run>/earlier/001`, ..., so that no table mixes two runs and nothing is lost.

    Returns:
        Where it went; None where the folder held no run.
    """
    left = [run / name for name in WRITTEN if (run / name).exists()]
    if not left:
        return None
    numbers = [int(folder.name) for folder in (run / "earlier").glob("[0-9][0-9][0-9]")]
    folder = run / "earlier" / f"{max(numbers, default=0) + 1:03d}"
    folder.mkdir(parents=True)
    for path in left:
        path.rename(folder / path.name)
    return folder


def read_config(path: Path) -> dict[str, Any]:
    """The config.yaml of a run's folder.

    Raises:
        ConfigError: it is no YAML, or not of sections by name.
    """
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML, as `fit` wrote it: {' '.join(str(error).split())}") from error
    if not isinstance(value, dict):
        raise ConfigError(
            f"{path} holds {type(value).__name__}, not the sections of a configuration, as `fit` wrote it"
        )
    return value
