"""A source's slides, read as `build` reads them."""

from __future__ import annotations

import shutil
from pathlib import Path

from data_prep.slide.slide import Slide
from data_prep.sources import ReaderOptions, find_source


def read_one(source: str, folder: Path, name: str, options: ReaderOptions | None = None) -> Slide:
    jobs = find_source(source)(folder, options or ReaderOptions()).jobs
    (job,) = (job for job in jobs if job.name == name)
    slide = job.read()
    names = job.genes()
    assert (names.ids, names.symbols) == (tuple(slide.gene_ids), tuple(slide.gene_symbols))
    assert all(file.is_file() for file in job.files())
    return slide


def copy(cohort: Path, target: Path, name: str = "tiny_1") -> Path:
    return Path(shutil.copytree(cohort / name, target / name))
