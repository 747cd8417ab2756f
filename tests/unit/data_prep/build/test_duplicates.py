"""One section under two names is found by its counts; two sections are not one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from data_prep.build.build import build
from data_prep.build.config import BuildConfig, SourceEntry
from data_prep.build.duplicates import estimate_shared, make_sketch, match_duplicates, strip_barcode
from data_prep.slide.curation import Curation
from tests.support.tiny_cohort import write_cohort


@pytest.mark.parametrize(
    ("barcode", "bare"),
    [
        ("AAACAAGTATCTCCCA-1", "AAACAAGTATCTCCCA"),
        ("GSE1_GSM2_AAACAAGTATCTCCCA-1", "AAACAAGTATCTCCCA"),
        ("AAACAAGTATCTCCCA", "AAACAAGTATCTCCCA"),
        ("Human_Breast_Andersson_10142021_ST_A1_10x13", "10x13"),
        ("010x013", "10x13"),
        ("s_016um_00269_00526-1", "s_016um_00269_00526-1"),
    ],
)
def test_what_sources_add_to_a_barcode_is_taken_off(barcode: str, bare: str) -> None:
    assert strip_barcode(barcode) == bare


def section(seed: int, spots: int = 400, genes: int = 300) -> tuple[np.ndarray, sparse.csr_matrix, np.ndarray]:
    rng = np.random.default_rng(seed)
    letters = np.random.default_rng(99).choice(list("ACGT"), (spots, 16))  # one whitelist for all
    level = np.random.default_rng(98).gamma(1.0, 1.0, genes)
    counts = sparse.csr_matrix(rng.poisson(level, (spots, genes)).astype(np.int32))
    return np.array(["".join(word) + "-1" for word in letters]), counts, np.arange(genes)


def exact(
    one: tuple[np.ndarray, sparse.csr_matrix, np.ndarray], other: tuple[np.ndarray, sparse.csr_matrix, np.ndarray]
) -> float:
    """The smaller set of (barcode, gene, count)'s share in the other, counted out."""
    sets = []
    for barcodes, counts, genes in (one, other):
        coo = counts.tocoo()
        sets.append(
            {(strip_barcode(barcodes[i]), genes[j], v) for i, j, v in zip(coo.row, coo.col, coo.data, strict=True)}
        )
    return len(sets[0] & sets[1]) / min(len(sets[0]), len(sets[1]))


def test_the_estimate_is_near_the_exact_share() -> None:
    barcodes, counts, genes = section(0)
    for kept_spots, kept_genes in ((400, 300), (350, 300), (400, 200), (300, 150), (60, 300)):
        part = barcodes[:kept_spots], counts[:kept_spots][:, :kept_genes].tocsr(), genes[:kept_genes]
        found = estimate_shared(make_sketch(barcodes, counts, genes), make_sketch(*part))
        assert abs(found - exact((barcodes, counts, genes), part)) < 0.2


def test_another_section_on_the_same_whitelist_is_another() -> None:
    one, other = section(0), section(1)
    found = estimate_shared(make_sketch(*one), make_sketch(*other))
    assert abs(found - exact(one, other)) < 0.1
    assert found < 0.5


def test_the_lowest_number_stands_for_all() -> None:
    one, two, other = make_sketch(*section(0)), make_sketch(*section(0)), make_sketch(*section(1))
    assert match_duplicates({5: one, 2: two, 3: other, 9: one}) == {5: (2, 1.0), 9: (2, 1.0)}


def test_a_build_keeps_one_of_two_and_says_so(tmp_path: Path) -> None:
    cohort = write_cohort(tmp_path / "in", {"tiny_1": "P1", "tiny_2": "P2"})
    shutil.copytree(cohort / "tiny_1", cohort / "tiny_3")
    sheet = (cohort / "slides.csv").read_text()
    (cohort / "slides.csv").write_text(sheet + "tiny_3,P3,tiny,human,test,CC0,\n")
    config = BuildConfig((SourceEntry("space_ranger", cohort),))
    report = build(config, tmp_path / "set")
    assert [slide.name for slide in report.manifest.slides] == ["tiny_1", "tiny_2"]
    (exclusion,) = report.exclusions
    assert (exclusion.slide, exclusion.stage) == ("tiny_3", "duplicate")
    assert exclusion.reason == "has 100% of its counts in common with 'tiny_1', which stands for both"
    assert not list((tmp_path / "set").glob("tiny_3*"))
    again = build(config, tmp_path / "set")
    assert again.reused == ("tiny_1", "tiny_2", "tiny_3")
    assert again.exclusions == report.exclusions
    assert json.loads((tmp_path / "set/state/tiny_3.json").read_text())["status"] == "duplicate"
    kept = build(BuildConfig(config.sources, curation=Curation(duplicates="keep")), tmp_path / "both")
    assert len(kept.manifest.slides) == 3
    assert (tmp_path / "both/duplicates.csv").read_text() == 'slide,duplicate_of\n"tiny_3","tiny_1"\n'
