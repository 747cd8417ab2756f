"""`python -m stalign_pl fit|validate|test|predict --config FILE`, and our own commands."""

from __future__ import annotations

import argparse
import os
import sys
from importlib import import_module

from stalign_pl.errors import STAlignError
from stalign_pl.runs.signals import Preempted, leave, on_signals, stop_at_once

LIGHTNING_COMMANDS = {
    "fit": "pretrain on a shard set",
    "validate": "score a checkpoint on the validation patients",
    "test": "score a checkpoint on the test patients, with every floor",
    "predict": "write embeddings, domains and predicted genes as .h5ad",
}


OWN_COMMANDS = {
    "plan": "what an epoch's batches are made of, before it is run",
    "genes": "the genes that a configuration would choose",
    "clusters": "the table of clusters that the authors' loss draws its negatives by",
    "cache-features": "run frozen encoders once over a shard set",
    "export": "a run's model as a folder that loads without the training packages",
}


def main() -> int:
    if sys.argv[1:2] == ["fit"]:
        on_signals(stop_at_once)
    # Read when torch is imported: large CPU tensors on huge pages. A CPU step takes about half the time, page faults
    # being the other half (measured); numbers do not change.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    if not sys.argv[1:] or sys.argv[1] in ("-h", "--help"):
        print(_summary())
        return 0
    if sys.argv[1] not in LIGHTNING_COMMANDS | OWN_COMMANDS:
        known = ", ".join(LIGHTNING_COMMANDS | OWN_COMMANDS)
        return _refuse(f"no command {sys.argv[1]!r}; known: {known}", 2)
    if sys.argv[1] in OWN_COMMANDS:
        return _own_command(sys.argv[1], sys.argv[2:])
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    from stalign_pl.cli.lightning import STAlignCLI

    try:
        STAlignCLI()
    except Preempted as stop:
        return leave(stop)
    except (STAlignError, MisconfigurationException, OSError) as error:
        return _refuse(error, 1)
    except argparse.ArgumentError as error:
        return _refuse(error, 2)
    return 0


def _refuse(error: object, status: int) -> int:
    """Say on stderr, in a single write, what is wrong: every rank writes to the same pipe, and print() writes twice."""
    sys.stderr.write(f"stalign_pl: error: {' '.join(str(error).split())}\n")
    return status


def _summary() -> str:
    commands = {**LIGHTNING_COMMANDS, **OWN_COMMANDS}
    lines = [f"  {name:<16}{what}" for name, what in commands.items()]
    return "\n".join(["usage: python -m stalign_pl COMMAND [--help | options]", "", *lines])


def _own_command(name: str, arguments: list[str]) -> int:
    """A command that Lightning has no part in: the `main` of its module here."""
    command = import_module(f"stalign_pl.cli.{name.replace('-', '_')}")
    try:
        return command.main(arguments)
    except (STAlignError, OSError) as error:
        return _refuse(error, 1)
    except argparse.ArgumentError as error:
        return _refuse(error, 2)
