"""A cohort on disk: every patient's slide, the sheet and the record."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pandas as pd

from data_prep.simulation.expression import draw_expression, draw_genes
from data_prep.simulation.files import write_folder
from data_prep.simulation.histology import draw_image
from data_prep.simulation.parameters import CohortParameters
from data_prep.simulation.tissue import compose, draw_tissue
from stalign_pl.errors import ConfigError
from stalign_pl.files import replace_file, write_json


def _refuse_another_cohort(out: Path, names: list[str], record: dict[str, Any]) -> None:
    """Raise ConfigError where the folder holds slides or the record of another cohort: they would mix."""
    path = out / "cohort.json"
    others = sorted(folder.name for folder in out.iterdir() if folder.is_dir() and folder.name not in names)
    if others or (path.is_file() and json.loads(path.read_text()) != record):
        held = f"slides {', '.join(others[:3])}" if others else "its cohort.json has another seed or other parameters"
        raise ConfigError(f"{out} holds another cohort ({held}). Give another --out, or remove it")


def _name_slide(seed: int, patient: int) -> str:
    return f"sim{seed}_P{patient:02d}"


def _write_patient(job: tuple[CohortParameters, int, int, Path]) -> str:
    parameters, seed, patient, out = job
    name = _name_slide(seed, patient)
    composition, genes = compose(parameters), draw_genes(parameters, seed)
    tissue = draw_tissue(parameters, seed, patient)
    expression = draw_expression(parameters, seed, patient, tissue, genes, composition)
    image = draw_image(parameters, seed, patient, tissue)
    write_folder(out / name, tissue, image, expression, genes.names, composition.names, parameters.um_per_px)
    return name


def simulate(parameters: CohortParameters, seed: int, out: Path, workers: int = 1) -> Iterator[str]:
    """Write the slides of a cohort, yielding each one's name as it is done; the sheet and the record come last."""
    out.mkdir(parents=True, exist_ok=True)
    names = [_name_slide(seed, patient) for patient in range(1, parameters.patients + 1)]
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
    with replace_file(out / "slides.csv") as temporary:
        sheet.to_csv(temporary, index=False)
    write_json(out / "cohort.json", record)
