"""Where a run's numbers go: metrics.csv always, wandb online or offline."""

from __future__ import annotations

import csv
import os
import secrets
from netrc import netrc
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from stalign_pl.errors import ConfigError
from stalign_pl.files import replacing
from stalign_pl.runs.writer import RunWriter

WandbMode = Literal["auto", "online", "offline", "off"]


class MetricsCSV(Logger):
    """`<run>/metrics.csv`: a row a logging call, columns `step` and the metrics, in order of first appearance.

    Every row is on disk when `log_metrics` returns. A resumed run goes on in the same file, less the rows of the steps
    that it takes again. (Lightning logs a step just after it saves one: a run killed in the milliseconds between has
    the checkpoint and not that row.)

    Args:
        run: the run's folder.
        writer: as for `AtomicCheckpointIO`.
    """

    def __init__(self, run: Path, writer: RunWriter | None = None) -> None:
        super().__init__()
        self._writer = writer
        self._run, self._path = run, run / "metrics.csv"
        self._rows = self._read()
        self._columns = list(dict.fromkeys(["step", *(name for row in self._rows for name in row)]))

    def _read(self) -> list[dict[str, str]]:
        if not self._path.exists():
            return []
        with self._path.open(newline="") as file:
            return [{name: value for name, value in row.items() if value} for row in csv.DictReader(file)]

    @property
    def name(self) -> str:
        return self._run.name

    @property
    def version(self) -> str:
        return ""

    @property
    def save_dir(self) -> str:
        return str(self._run)

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: config.yaml holds them all."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        if self._writer is not None:
            self._writer.check()
        row = {"step": str(step), **{name: repr(float(value)) for name, value in metrics.items()}}
        new = [name for name in row if name not in self._columns]
        self._columns += new
        self._rows.append(row)
        if new or not self._path.exists():
            self._rewrite()
        else:
            with self._path.open("a", newline="") as file:
                csv.DictWriter(file, self._columns).writerow(row)

    @rank_zero_only
    def forget_from(self, step: int) -> None:
        """Drop the rows of this and all later steps."""
        self._rows = [row for row in self._rows if int(row["step"]) < step]
        self._rewrite()

    def _rewrite(self) -> None:
        self._run.mkdir(parents=True, exist_ok=True)
        with replacing(self._path) as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, self._columns)
            writer.writeheader()
            writer.writerows(self._rows)


def refuse_wandb(mode: WandbMode) -> None:
    """Raises ConfigError where what is asked of wandb cannot be had."""
    if mode == "online" and not _logged_in():
        raise ConfigError("run.wandb is online, but you are not logged in: `wandb login`, or run.wandb: auto")


def wandb_logger(run: Path, mode: WandbMode, project: str) -> Logger | None:
    """A WandbLogger whose run id lives in the run's folder, so that a resumed run goes on in the same wandb run."""
    if mode == "off" or rank_zero_only.rank != 0:
        return None
    from lightning.pytorch.loggers import WandbLogger

    logged_in = _logged_in()
    identity = run / "wandb_id.txt"
    if not identity.exists():
        identity.write_text(secrets.token_hex(4) + "\n")
    return WandbLogger(
        name=run.name,
        project=project,
        save_dir=str(run),
        id=identity.read_text().strip(),
        resume="allow" if mode != "offline" and logged_in else None,
        offline=mode == "offline" or not logged_in,
    )


def _logged_in() -> bool:
    """Whether wandb would find a key without asking: in the environment or where `wandb login` writes it."""
    import wandb

    settings = wandb.Settings()
    if os.environ.get("WANDB_API_KEY") or settings.api_key:
        return True
    path = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    host = urlsplit(settings.base_url).hostname
    return path.is_file() and netrc(path).authenticators(host) is not None
