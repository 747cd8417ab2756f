"""Building a damaged cohort, and comparing what came out with the undamaged slides."""

from __future__ import annotations

import tracemalloc
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from data_prep.build.build import BuildReport, build
from data_prep.build.config import BuildConfig, SourceEntry, read_config
from data_prep.slide.curation import Exclusion
from stalign_pl.errors import STAlignError
from stalign_pl.shard_format import SlideRecord
from tests.support.data_prep.damage.case import Case
from tests.support.data_prep.damage.cohorts import LAYOUTS

MOST_BYTES = 200 << 20
"""A build of these slides may ask for this much at once: many times what it needs, far below an absurd header's claim.
"""


@dataclass(frozen=True)
class Outcome:
    """What came of a build: a report, or the error that refused the whole of it."""

    report: BuildReport | None
    refusal: STAlignError | None

    @property
    def failed(self) -> dict[str, str]:
        return {} if self.report is None else self.report.failed

    @property
    def exclusions(self) -> dict[str, Exclusion]:
        return {} if self.report is None else {exclusion.slide: exclusion for exclusion in self.report.exclusions}

    @property
    def built(self) -> dict[str, SlideRecord]:
        return {} if self.report is None else {slide.name: slide for slide in self.report.manifest.slides}


def build_damaged(case: Case, root: Path, out: Path) -> Outcome:
    """Spoil the cohort in `root` and build it. Errors that are not ours come through, as a traceback would."""
    case.spoil(root)
    try:
        if case.yaml:
            path = root / "build.yaml"
            path.write_bytes(case.yaml if isinstance(case.yaml, bytes) else case.yaml.encode())
            config = replace(read_config(path), slide_as_patient=True)
        else:
            config = BuildConfig((SourceEntry(LAYOUTS[case.layout].source, root),), slide_as_patient=True)
        return Outcome(build(config, out), None)
    except STAlignError as error:
        return Outcome(None, error)


def build_within_memory(case: Case, root: Path, out: Path) -> tuple[Outcome, int]:
    """As `build_damaged`; and the most bytes that were allocated at once."""
    tracemalloc.start()
    try:
        return build_damaged(case, root, out), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def same_shard(one: SlideRecord, one_set: Path, other: SlideRecord, other_set: Path) -> bool:
    """Whether two sets hold the same samples of a slide: barcodes, counts of every gene, positions, pixels.

    The number of the slide in its set and the numbers of the genes may differ, so files whose digests differ are read.
    """
    if one.files == other.files and one.um_per_px == other.um_per_px:
        return True
    import tarfile

    import anndata

    tables = [anndata.read_h5ad(folder / slide.h5ad) for slide, folder in ((one, one_set), (other, other_set))]
    first, second = (table[:, sorted(table.var_names)] for table in tables)
    pictures = []
    for slide, folder in ((one, one_set), (other, other_set)):
        found = {}
        for name in slide.tars:
            with tarfile.open(folder / name) as tar:
                members = {member.name: tar.extractfile(member) for member in tar}
                found |= {
                    name.partition("_")[2]: file.read()  # what stands before is the slide's number
                    for name, file in members.items()
                    if file and ".genes." not in name
                }
        pictures.append(found)
    return (
        first.obs_names.tolist() == second.obs_names.tolist()
        and first.var_names.tolist() == second.var_names.tolist()
        and np.array_equal(first.X.toarray(), second.X.toarray())
        and np.array_equal(first.obsm["spatial"], second.obsm["spatial"])
        and one.um_per_px == other.um_per_px
        and pictures[0] == pictures[1]
    )
