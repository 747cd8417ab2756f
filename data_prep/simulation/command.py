"""`python -m data_prep simulate`: write a cohort to disk, to go through the same reader as real slides."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, fields
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from data_prep.simulation.expression import draw_expression, draw_genes
from data_prep.simulation.files import write_slide
from data_prep.simulation.histology import draw_image
from data_prep.simulation.parameters import CohortParameters
from data_prep.simulation.tissue import compose, draw_tissue
from stalign_pl.errors import ConfigError
from stalign_pl.files import replacing, write_json

HELP = "write a simulated cohort (known domains, images, counts) in Space Ranger's layout"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Simulate slides of several patients with known spatial domains, in Space Ranger's layout, with labels and the "
        "oracle's features beside them. Example: python -m data_prep simulate --seed 0 --out cohorts/demo-0"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write the cohort to")
    parser.add_argument(
        "--seed", type=int, default=0, help="cohort seed (0-4: development; 100-104: the printed table)"
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
    kinds = {item.name: type(item.default) for item in fields(CohortParameters)}
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
    return CohortParameters(**values)


def _refuse_another_cohort(out: Path, names: list[str], record: dict[str, Any]) -> None:
    """Raises ConfigError where the folder holds slides or the record of another cohort: they would mix."""
    path = out / "cohort.json"
    others = sorted(folder.name for folder in out.iterdir() if folder.is_dir() and folder.name not in names)
    if others or (path.is_file() and json.loads(path.read_text()) != record):
        held = f"slides {', '.join(others[:3])}" if others else "its cohort.json has another seed or other parameters"
        raise ConfigError(f"{out} holds another cohort ({held}). Give another --out, or remove it")


def _slide_name(seed: int, patient: int) -> str:
    return f"sim{seed}_P{patient:02d}"


def _write_patient(job: tuple[CohortParameters, int, int, Path]) -> str:
    parameters, seed, patient, out = job
    name = _slide_name(seed, patient)
    composition, genes = compose(parameters), draw_genes(parameters, seed)
    tissue = draw_tissue(parameters, seed, patient)
    expression = draw_expression(parameters, seed, patient, tissue, genes, composition)
    image = draw_image(parameters, seed, patient, tissue)
    write_slide(out / name, tissue, image, expression, genes.names, composition.names, parameters.um_per_px)
    return name


def simulate(parameters: CohortParameters, seed: int, out: Path, workers: int = 1) -> Iterator[str]:
    """Write the slides of a cohort, yielding each one's name as it is done; the sheet and the record come last."""
    out.mkdir(parents=True, exist_ok=True)
    names = [_slide_name(seed, patient) for patient in range(1, parameters.patients + 1)]
    record = {"seed": seed, "parameters": asdict(parameters)}
    _refuse_another_cohort(out, names, record)
    jobs = [(parameters, seed, patient, out) for patient in range(1, parameters.patients + 1)]
    if workers > 1:
        with get_context("spawn").Pool(min(workers, len(jobs))) as pool:
            yield from pool.imap(_write_patient, jobs)
    else:
        yield from map(_write_patient, jobs)
    sheet = pd.DataFrame({"slide": names, "patient": [name.split("_")[1] for name in names]})
    sheet["study"], sheet["species"], sheet["tissue"], sheet["technology"] = (
        f"cohort {seed}",
        "simulated",
        "simulated",
        "Visium",
    )
    sheet["labels"] = [f"{name}/labels.csv" for name in names]
    with replacing(out / "slides.csv") as temporary:
        sheet.to_csv(temporary, index=False)
    write_json(out / "cohort.json", record)


def run(args: argparse.Namespace) -> int:
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
