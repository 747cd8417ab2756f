"""The simulated cohort: a function of its seed, true to its parameters, and readable by the reader of real slides."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data_prep.build.build import build
from data_prep.build.config import BuildConfig, SourceEntry
from data_prep.cli.simulate import parse_parameters
from data_prep.cli.simulate import run as run_command
from data_prep.simulation.cohort import simulate
from data_prep.simulation.expression import draw_expression, draw_genes
from data_prep.simulation.histology import draw_image
from data_prep.simulation.parameters import CohortParameters
from data_prep.simulation.tissue import compose, draw_tissue
from stalign_pl.data.shards.section import read_section
from stalign_pl.data.shards.shard_set import ShardSet
from stalign_pl.errors import ConfigError
from stalign_pl.evaluation.oracle import read_oracle

SMALL = CohortParameters(
    patients=2, columns=10, rows=10, marker_genes=12, laminar_genes=8, flat_genes=20, oracle_draws=16
)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cohort")
    names = list(simulate(SMALL, 7, out))
    assert names == ["sim7_P01", "sim7_P02"]
    return out


def test_a_cohort_is_a_function_of_its_seed(cohort: Path, tmp_path: Path) -> None:
    list(simulate(replace(SMALL, patients=1), 7, tmp_path / "again"))  # fewer patients change nothing for the first
    list(simulate(replace(SMALL, patients=1), 8, tmp_path / "other"))
    for name in ("full_image.png", "labels.csv", "spatial/tissue_positions.csv"):
        same = (tmp_path / "again" / "sim7_P01" / name).read_bytes()
        assert same == (cohort / "sim7_P01" / name).read_bytes()
        if not name.endswith("positions.csv"):  # few spots: two seeds may leave out the same ones
            assert same != (tmp_path / "other" / "sim8_P01" / name).read_bytes()
    with np.load(cohort / "sim7_P01" / "oracle.npz") as one, np.load(tmp_path / "again/sim7_P01/oracle.npz") as other:
        np.testing.assert_array_equal(one["expected"], other["expected"])


def test_the_reader_of_real_slides_takes_it_and_the_oracle_fits(cohort: Path, tmp_path: Path) -> None:
    report = build(BuildConfig(sources=(SourceEntry("space_ranger", cohort),)), tmp_path / "set")
    assert report.failed == {}
    shards = ShardSet(tmp_path / "set")
    slide = next(iter(shards.slides.values()))
    assert slide.record.um_per_px == pytest.approx(2.0, rel=1e-3)
    assert slide.record.patient == "P01"
    section = read_section(slide, "domain")
    genes = np.arange(SMALL.genes)
    oracle = read_oracle(str(cohort), "sim7_P01", section.barcodes, genes, shards.genes)
    counts = slide.csr(SMALL.genes).toarray()
    measured = np.log1p(1e4 * counts / counts.sum(axis=1, keepdims=True))
    error = ((measured - oracle.expected) ** 2).mean()
    rolled = np.roll(oracle.expected, len(measured) // 2, axis=0)
    assert error < ((measured - rolled) ** 2).mean()  # it knows this spot from another


@pytest.mark.parametrize(("share", "mixed"), [(0.0, 0), (0.5, 4), (1.0, 8)])
def test_the_share_of_neighbourhood_domains_is_what_was_asked(share: float, mixed: int) -> None:
    shares = compose(replace(SMALL, neighbourhood_only=share)).shares
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    assert (shares.max(axis=1) < 1).sum() == mixed
    np.testing.assert_allclose(shares.sum(axis=0), 1)  # a pair has the same states in equal number


def test_an_uninformative_image_is_not_drawn_from_the_state() -> None:
    tissue = draw_tissue(replace(SMALL, image_informative=0.0), 3, 1)
    assert (tissue.picture == tissue.state).mean() < 0.4
    informed = draw_tissue(SMALL, 3, 1)
    np.testing.assert_array_equal(informed.picture, informed.state)


def test_counts_are_negative_binomial_around_the_expected_depth() -> None:
    parameters = replace(SMALL, columns=40, rows=40, patient_counts_sd=0.0)
    tissue, genes = draw_tissue(parameters, 0, 1), draw_genes(parameters, 0)
    counts = draw_expression(replace(parameters, oracle_draws=1), 0, 1, tissue, genes, compose(parameters)).counts
    library = counts.sum(axis=1)
    assert np.median(library) == pytest.approx(parameters.median_counts, rel=0.2)
    assert np.log(library).std() == pytest.approx(parameters.log_counts_sd, rel=0.25)
    flat = counts[:, -1 - np.argmax(counts[:, -parameters.flat_genes :].mean(axis=0)[::-1])]
    scaled = flat * library.mean() / library
    assert scaled.var() > 1.05 * scaled.mean()  # overdispersed


def test_the_picture_shows_tissue_on_a_white_slide() -> None:
    tissue = draw_tissue(SMALL, 1, 1)
    image = draw_image(SMALL, 1, 1, tissue)
    column, row = (tissue.xy_um / SMALL.um_per_px).astype(int).T
    assert image[:20, :20].mean() > 220
    assert image[row, column].mean() < 205


@pytest.mark.parametrize(
    ("change", "message"),
    [("colour=3", "no parameter 'colour'"), ("rows=many", "'many' is not"), ("patients=0", "at least 1")],
)
def test_a_wrong_parameter_is_named(change: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_parameters([change])


def test_the_command_writes_the_sheet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changes = ["patients=1", "columns=6", "rows=6", "oracle_draws=2", "islands=0", "flat_genes=10"]
    args = argparse.Namespace(out=tmp_path / "c", seed=5, workers=1, set=changes)
    assert run_command(args) == 0
    assert "1 slides in" in capsys.readouterr().out
    assert (tmp_path / "c" / "slides.csv").read_text().splitlines()[1].startswith("sim5_P01,P01,cohort 5")


def test_two_cohorts_are_not_mixed_in_one_folder(tmp_path: Path) -> None:
    changes = ["patients=1", "columns=6", "rows=6", "oracle_draws=2", "islands=0", "flat_genes=10"]
    given = {"out": tmp_path / "c", "workers": 1}
    assert run_command(argparse.Namespace(seed=5, set=changes, **given)) == 0
    assert run_command(argparse.Namespace(seed=5, set=changes, **given)) == 0
    for seed, other in ((6, changes), (5, [*changes, "pair_mix=0.9"])):
        with pytest.raises(ConfigError, match="holds another cohort"):
            run_command(argparse.Namespace(seed=seed, set=other, **given))
