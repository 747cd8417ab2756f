"""python -m data_prep COMMAND ...: slides in, shards out."""

from __future__ import annotations

import argparse
import importlib
import sys

from stalign_pl.errors import ConfigError, STAlignError

COMMANDS = {
    "simulate": ("data_prep.cli.simulate", "write a simulated cohort of Space Ranger folders"),
    "download": ("data_prep.cli.download", "fetch slides of a public data set"),
    "plan": ("data_prep.cli.plan", "say which slides a config would build, and why not the others"),
    "build": ("data_prep.cli.build", "build a shard set from slides"),
    "splits": ("data_prep.cli.splits", "divide slides into train, val and test by patient"),
    "check": ("data_prep.cli.check", "verify a shard set"),
    "report": ("data_prep.cli.report", "report a shard set on one HTML page"),
}


EXAMPLE = """example:
  python -m data_prep simulate --seed 0 --out cohorts/demo-0
  python -m data_prep build --source space_ranger --input cohorts/demo-0 --out shards/demo-0
  python -m data_prep check shards/demo-0 --deep

python -m data_prep COMMAND --help explains a command.
"""


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns the exit status: 0, 1 where something of the data is wrong, 2 for a wrong call."""
    arguments = sys.argv[1:] if arguments is None else arguments
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        "python -m data_prep", description=__doc__, epilog=EXAMPLE, formatter_class=formatter, allow_abbrev=False
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (module_name, summary) in COMMANDS.items():
        if name in arguments[:1]:  # only the command that is asked for is imported
            module = importlib.import_module(module_name)
            command = commands.add_parser(
                name, help=summary, description=module.__doc__, formatter_class=formatter, allow_abbrev=False
            )
            module.add_arguments(command)
            command.set_defaults(run=module.run)
        else:
            commands.add_parser(name, help=summary)
    parsed = parser.parse_args(arguments)
    try:
        return parsed.run(parsed)
    except OSError as error:  # a folder that cannot be made or read, a full disk: the message names it
        print(f"error: {error}", file=sys.stderr)
        return 1
    except STAlignError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
