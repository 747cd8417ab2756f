"""The program in processes forked from one that has the imports behind it: seconds cheaper each, and free to be killed.

Forked from a server of its own, not from the test's process: that has threads, which a fork would leave half-way.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch
from lightning.fabric.utilities.rank_zero import rank_zero_only

from stalign_pl.cli.main import main

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["tests.support.runs"])


def _program(given: tuple[str, ...], printed: Path, threads: int, variables: dict[str, str]) -> None:
    file = os.open(printed, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.environ.update(variables)
    rank_zero_only.rank = int(variables.get("LOCAL_RANK", 0))
    torch.set_num_threads(threads)  # sums over another number of threads round otherwise
    sys.argv = ["stalign_pl", *given]
    sys.exit(main())


def start_forked(*given: str, printed: Path, **variables: str) -> BaseProcess:
    """Start the program with as many threads as this process has; both its streams go to the end of a file."""
    process = SERVER.Process(target=_program, args=(given, printed, torch.get_num_threads(), variables))
    process.start()
    return process


def start_ranks(*given: str, printed: Path, processes: int = 2) -> list[BaseProcess]:
    """The processes of one run, as Slurm would start them: each with its rank in the environment."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(processes), "NODE_RANK": "0"}
    given = (*given, "--trainer.devices", str(processes), "--trainer.strategy", "ddp")
    return [start_forked(*given, printed=printed, **place, LOCAL_RANK=str(rank)) for rank in range(processes)]


def ended(*processes: BaseProcess, seconds: float = 300) -> list[int | None]:
    """Their exit statuses; None for one that has not ended in time, which is killed."""
    for process in processes:
        process.join(seconds)
    statuses = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
    return statuses
