"""Where a run's numbers go: metrics.csv always, wandb online or offline."""

from __future__ import annotations

import csv
import os
import secrets
from collections.abc import Mapping
from netrc import netrc
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from lightning.pytorch.loggers import CSVLogger, Logger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from stalign_pl.errors import ConfigError
from stalign_pl.files import replace_file
from stalign_pl.runs.writer import RunWriter

WandbMode = Literal["auto", "online", "offline", "off"]


class MetricsCSV(CSVLogger):
    """`<run>/metrics.csv`: a row a logging call, columns `step` and the metrics, in order of first appearance.

    Lightning's CSVLogger, without version folders and hyper-parameters. Every row is on disk when `log_metrics`
    returns. A resumed run goes on in the same file, less the rows of the steps that it takes again. (Lightning logs a
    step just after it saves one: a run killed in the milliseconds between has the checkpoint and not that row.)

    Args:
        run: the run's folder.
        writer: as for `AtomicCheckpointIO`.
    """

    def __init__(self, run: Path, writer: RunWriter | None = None) -> None:
        super().__init__(run, name=None, version="", flush_logs_every_n_steps=1)
        self._writer = writer
        self._experiment = self._file = _MetricsFile(str(run))

    @rank_zero_only
    def log_hyperparams(self, params: object = None) -> None:
        """Nothing: config.yaml holds them all."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Tensor | float], step: int | None = None) -> None:
        if self._writer is not None:
            self._writer.check()
        super().log_metrics({name: float(value) for name, value in metrics.items()}, step)

    @rank_zero_only
    def forget_from(self, step: int) -> None:
        """Drop the rows of this and all later steps."""
        self._file.forget_from(step)


class _MetricsFile(ExperimentWriter):
    """Lightning's writer, which goes on in the file that is there, adds columns at the end, and replaces it whole.

    Its own deletes the file, sorts the columns, and writes a file of more columns over the old one in place: a run
    that is killed in that would lose all rows.
    """

    def _check_log_dir_exists(self) -> None:
        """Take the columns of the file that is there."""
        path = Path(self.metrics_file_path)
        if path.exists():
            with path.open(newline="") as file:
                self.metrics_keys = next(csv.reader(file), [])

    def _record_new_keys(self) -> set[str]:
        names = dict.fromkeys(["step", *(name for row in self.metrics for name in row)])
        new = [name for name in names if name not in self.metrics_keys]
        self.metrics_keys += new
        return set(new)

    def _rewrite_with_new_header(self, fieldnames: list[str]) -> None:
        self._replace(self._read(), fieldnames)

    def forget_from(self, step: int) -> None:
        """Drop the rows of this and all later steps."""
        path = Path(self.metrics_file_path)
        if path.exists():
            self._replace([row for row in self._read() if int(row["step"]) < step], self.metrics_keys)

    def _read(self) -> list[dict[str, str]]:
        with Path(self.metrics_file_path).open(newline="") as file:
            return list(csv.DictReader(file))

    def _replace(self, rows: list[dict[str, str]], columns: list[str]) -> None:
        with replace_file(Path(self.metrics_file_path)) as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(rows)


def refuse_wandb(mode: WandbMode) -> None:
    """Raises ConfigError where what is asked of wandb cannot be had."""
    if mode == "online" and not _is_logged_in():
        raise ConfigError("run.wandb is online, but you are not logged in: `wandb login`, or run.wandb: auto")


@rank_zero_only
def make_wandb_logger(run: Path, mode: WandbMode, project: str) -> Logger | None:
    """A WandbLogger whose run id lives in the run's folder, so that a resumed run goes on in the same wandb run.

    None where it is off, and on every rank but the first.
    """
    if mode == "off":
        return None
    from lightning.pytorch.loggers import WandbLogger

    logged_in = _is_logged_in()
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


def _is_logged_in() -> bool:
    """Whether wandb would find a key without asking: in the environment or where `wandb login` writes it."""
    import wandb

    settings = wandb.Settings()
    if os.environ.get("WANDB_API_KEY") or settings.api_key:
        return True
    path = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    host = urlsplit(settings.base_url).hostname
    return host is not None and path.is_file() and netrc(path).authenticators(host) is not None
