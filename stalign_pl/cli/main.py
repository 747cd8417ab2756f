"""`python -m stalign_pl COMMAND`: Lightning's commands fit, validate, test and predict, and our own."""

from __future__ import annotations

import argparse
import os
import sys
from importlib import import_module

from stalign_pl.errors import STAlignError
from stalign_pl.runs.signals import Preempted, leave, set_handler, stop_at_once

LIGHTNING_COMMANDS = {
    "fit": "pretrain on a shard set",
    "validate": "score a checkpoint on the validation patients",
    "test": "score a checkpoint on the test patients, beside every baseline",
    "predict": "write embeddings, domains and predicted genes as .h5ad",
}

OWN_COMMANDS = {
    "plan": "print what an epoch's batches are made of, before training",
    "genes": "write the genes that a configuration would choose",
    "clusters": "write the table of clusters that the paired loss draws its negatives by",
    "cache-features": "run frozen encoders once over a shard set and save their features",
    "export": "write a run's model as a folder that loads without the training packages",
}


def main() -> int:
    """Run the command of `sys.argv`; the exit status."""
    if sys.argv[1:2] == ["fit"]:
        set_handler(stop_at_once)
    # torch reads this when it is imported: large CPU tensors then lie on huge pages. Without, page faults take about
    # half the time of a CPU step. Numbers do not change.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    if not sys.argv[1:] or sys.argv[1] in ("-h", "--help"):
        print(_format_usage())
        return 0
    if sys.argv[1] not in LIGHTNING_COMMANDS | OWN_COMMANDS:
        known = ", ".join(LIGHTNING_COMMANDS | OWN_COMMANDS)
        return _print_error(f"no command {sys.argv[1]!r}; known: {known}", 2)
    if sys.argv[1] in OWN_COMMANDS:
        return _run_own_command(sys.argv[1], sys.argv[2:])
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    from stalign_pl.cli.lightning import STAlignCLI

    try:
        STAlignCLI()
    except Preempted as stop:
        return leave(stop)
    except (STAlignError, MisconfigurationException, OSError) as error:
        return _print_error(error, 1)
    except argparse.ArgumentError as error:
        return _print_error(error, 2)
    return 0


def _print_error(error: object, status: int) -> int:
    """Print an error on stderr and return `status`.

    In a single write, for every rank writes to the same pipe and print() writes twice.
    """
    sys.stderr.write(f"stalign_pl: error: {' '.join(str(error).split())}\n")
    return status


def _format_usage() -> str:
    """Usage, and a line on each command."""
    commands = {**LIGHTNING_COMMANDS, **OWN_COMMANDS}
    lines = [f"  {name:<16}{what}" for name, what in commands.items()]
    return "\n".join(["usage: python -m stalign_pl COMMAND [--help | options]", "", *lines])


def _run_own_command(name: str, arguments: list[str]) -> int:
    """Run one of our own commands, by the `main` of its module here."""
    command = import_module(f"stalign_pl.cli.{name.replace('-', '_')}")
    try:
        return command.main(arguments)
    except (STAlignError, OSError) as error:
        return _print_error(error, 1)
    except argparse.ArgumentError as error:
        return _print_error(error, 2)
