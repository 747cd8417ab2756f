"""SIGTERM and SIGUSR1 mean: make room, and go on later. What a run answers, and with which exit status.

Signals are taken by a handler that only sets a flag once training can be left in good order (callbacks.Preemption), and
end the process where it stands before that.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping
from types import FrameType

Handler = Callable[[int, FrameType | None], object] | int | signal.Handlers | None
"""What signal.getsignal returns: a function, SIG_DFL, SIG_IGN, or None for a handler that Python did not install."""

STATUS = os.EX_TEMPFAIL
"""75, of sysexits.h: not now; the same command will do later."""

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
"""What Slurm sends when it wants the node back, and what slurm/pretrain.sbatch asks for before the time limit."""


class Preempted(SystemExit):
    """The run was asked to stop, and has. Uncaught, it ends the program with `STATUS`.

    Args:
        together: every process has raised it.
    """

    def __init__(self, together: bool) -> None:
        super().__init__(STATUS)
        self.together = together


def handlers() -> dict[int, Handler]:
    """What `SIGNALS` call now."""
    return {number: signal.getsignal(number) for number in SIGNALS}


def set_handler(handler: Handler) -> None:
    """Have `SIGNALS` call this from now on. In the main thread."""
    restore_handlers(dict.fromkeys(SIGNALS, handler))


def restore_handlers(before: Mapping[int, Handler]) -> None:
    """Have `SIGNALS` call what `handlers` said."""
    for number, handler in before.items():
        signal.signal(number, handler)


def stop_at_once(number: int, frame: FrameType | None) -> None:
    """The handler for as long as there is nothing to save."""
    print(f"{signal.Signals(number).name} outside training: nothing to save; the same command goes on")
    raise Preempted(together=False)


def leave(stop: Preempted) -> int:
    """The exit status of a preempted run: rank 0's. The other processes end in here, with 0.

    Of several processes one reports, and it leaves last: `srun --kill-on-bad-exit` kills what is left when the first
    ends with another status than 0, and would report the kill; so does Lightning's launcher with its children.
    """
    from stalign_pl.distributed import close_group

    if stop.together and close_group().rank != 0:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
    return STATUS
