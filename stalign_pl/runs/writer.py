"""Who writes into a run's folder: the process that took it last. An earlier one that still runs is refused.

After the loss of a node Slurm starts a job again while the old one's processes may go on for minutes beside it.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from lightning import Callback, LightningModule, Trainer

from stalign_pl.errors import TrainingError
from stalign_pl.files import sweep_temporary, write_json


@dataclass(frozen=True)
class Writer:
    """One process that writes.

    Attributes:
        token: drawn at random; tells any two apart, even of one job.
        host: the machine it runs on.
        pid: its process there.
        job: Slurm's job; null outside Slurm.
        restart: how often that was requeued; 0 outside Slurm.
        since: when it took the folder, UTC.
    """

    token: str
    host: str
    pid: int
    job: str | None
    restart: int
    since: str

    @classmethod
    def this_process(cls) -> Writer:
        """A writer of this process, from now on."""
        return cls(
            token=secrets.token_hex(8),
            host=socket.gethostname(),
            pid=os.getpid(),
            job=os.environ.get("SLURM_JOB_ID"),
            restart=int(os.environ.get("SLURM_RESTART_COUNT", "0")),
            since=datetime.now(UTC).isoformat(timespec="seconds"),
        )

    def __str__(self) -> str:
        job = "" if self.job is None else f"job {self.job}, restart {self.restart}, "
        return f"{job}process {self.pid} on {self.host}, since {self.since}"


class RunWriter(Callback):
    """`<run>/writer.json` names the writer. Rank 0 of `fit` takes the folder when its checkpoint, if any, is read.

    The name is looked at just before a checkpoint is moved to its place, a row of metrics is added, and the results of
    an evaluation are written. (What a process writes between the look and the move is not kept apart: that takes
    microseconds.)

    Args:
        run: the run's folder.

    Raises:
        TrainingError: the folder is another's by now; with who took it.
    """

    def __init__(self, run: Path) -> None:
        self.path = run / "writer.json"
        self._own: Writer | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            self.take()

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            self.check()

    def refuse_live(self) -> None:
        """Before the folder is taken.

        Raises:
            TrainingError: a later start of the same job has it, or a process of this machine that still trains. (An
                earlier start of the same job gives way: it is what a requeued job finds after the loss of a node.)
        """
        own, found = Writer.this_process(), self._read()
        if found is None:
            return
        same_job = found.job is not None and found.job == own.job
        if same_job and found.restart > own.restart:
            raise TrainingError(f"{self.path.parent} is in use by a later start of this job: {found}")
        if not same_job and found.host == own.host and found.pid != own.pid and _trains(found.pid):
            raise TrainingError(
                f"{self.path.parent} is in use: {found} still trains in it. Give another run.name, or stop that process"
            )

    def take(self) -> None:
        """Be the writer from now on, and remove what killed ones left half-written.

        Raises:
            TrainingError: see `refuse_live`.
        """
        self.refuse_live()
        own = Writer.this_process()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_json(self.path, asdict(own))
        sweep_temporary(self.path.parent / "checkpoints", "*.ckpt")
        self._own = own

    def check(self) -> None:
        """Before a write. Nothing where this process has not taken the folder: `test` and `predict` do not."""
        if self._own is None:
            return
        found = self._read()
        if found != self._own:
            who = "was moved away" if found is None else f"was taken over by {found}"
            raise TrainingError(f"{self.path.parent} {who}. This process ({self._own}) writes nothing more into it")

    def _read(self) -> Writer | None:
        try:
            return Writer(**json.loads(self.path.read_text()))
        except FileNotFoundError:
            return None


def _trains(pid: int) -> bool:
    """Whether a process of this machine lives and is one of ours; where there is no /proc, as if none did."""
    try:
        return b"stalign_pl" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
