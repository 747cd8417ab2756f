"""`python -m data_prep simulate`: write a cohort to disk, to go through the same reader as real slides."""

from __future__ import annotations

import argparse
from dataclasses import fields, replace
from pathlib import Path

from tqdm import tqdm

from data_prep.simulation.cohort import simulate
from data_prep.simulation.parameters import CohortParameters
from stalign_pl.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.description = (
        "Simulate slides of several patients with known spatial domains, in Space Ranger's layout, with labels and the "
        "oracle's features beside them. Example: python -m data_prep simulate --seed 0 --out cohorts/demo-0"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write the cohort to")
    parser.add_argument(
        "--seed", type=int, default=0, help="cohort seed (0-4: development; 105-114: the printed tables)"
    )
    parser.add_argument("--workers", type=int, default=2, help="processes (default: 2)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="change a parameter of data_prep/simulation/parameters.py, e.g. --set neighbourhood_only=1 (repeatable)",
    )


def parse_parameters(changes: list[str]) -> CohortParameters:
    """Turn `NAME=VALUE` strings into parameters; an unknown name or a value of the wrong type is a ConfigError."""
    kinds = {item.name: float if isinstance(item.default, float) else int for item in fields(CohortParameters)}
    values: dict[str, int | float] = {}
    for change in changes:
        name, _, value = change.partition("=")
        if name not in kinds:
            raise ConfigError(f"--set {change}: no parameter {name!r}; known: {', '.join(kinds)}")
        try:
            values[name] = kinds[name](value)
        except ValueError as error:
            raise ConfigError(f"--set {change}: {value!r} is not {kinds[name].__name__}") from error
    for name, least in (("patients", 1), ("columns", 6), ("rows", 6)):
        if values.get(name, least) < least:
            raise ConfigError(f"--set {name}={values[name]}: at least {least} is wanted")
    return replace(CohortParameters(), **values)


def run(args: argparse.Namespace) -> int:
    """Simulate; returns 0."""
    parameters = parse_parameters(args.set)
    for _ in tqdm(
        simulate(parameters, args.seed, args.out, args.workers),
        total=parameters.patients,
        desc="simulate",
        unit="slide",
    ):
        pass
    print(f"{parameters.patients} slides in {args.out}")
    return 0
