"""What decides on a gene besides its rank: detection, a panel, and nothing of a test slide."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import anndata
import h5py
import numpy as np
import pytest
from scipy import sparse

from data_prep.build.build import build
from data_prep.build.config import BuildConfig, SourceEntry
from data_prep.splits.inputs import read_slides
from data_prep.splits.schemes import SplitRequest, make_split
from stalign_pl.cli.main import main
from stalign_pl.data.genes.selection import GeneSelection, choose_genes, count_detections, rank_genes
from stalign_pl.data.genes.vocabulary import build_vocabulary, count_measured, report_few_measured
from stalign_pl.data.shards.shard_set import ShardSet, SlideShard
from stalign_pl.errors import ConfigError
from stalign_pl.shard_format import GeneTable
from tests.support.tiny_cohort import GENES, write_matrix

KEPT = np.arange(0, GENES, 4)
"""The genes that tiny_2 measured."""

SILENT = 8
"""A gene that tiny_1 measured and never counted; one of KEPT."""

EXTRA = ("ENSG00000000000", "AAA1")
"""A gene that the added test slide alone measured; it comes first in the gene table, and moves all others by one."""


def rewrite(path: Path, columns: np.ndarray, silent: int | None = None, extra: bool = False) -> None:
    """A matrix with some of its genes, one of them without counts, or one gene more."""
    with h5py.File(path) as file:
        matrix = file["matrix"]
        parts = (matrix["data"][:], matrix["indices"][:], matrix["indptr"][:])
        counts = sparse.csr_matrix(parts, shape=(len(matrix["barcodes"]), GENES)).toarray()
        barcodes = [name.decode() for name in matrix["barcodes"][:]]
        ids, symbols = ([name.decode() for name in matrix[f"features/{key}"][:]] for key in ("id", "name"))
    if silent is not None:
        counts[:, silent] = 0
    counts, ids, symbols = counts[:, columns], [ids[c] for c in columns], [symbols[c] for c in columns]
    if extra:
        counts = np.concatenate([counts, np.full((len(counts), 1), 50)], axis=1)
        ids, symbols = [*ids, EXTRA[0]], [*symbols, EXTRA[1]]
    write_matrix(path, barcodes, ids, symbols, counts)


@pytest.fixture(scope="module")
def cohort(tiny_cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tiny_1 counts nothing of one gene, tiny_2 measured a quarter, tiny_3 one gene more than the others."""
    cohort = Path(shutil.copytree(tiny_cohort, tmp_path_factory.mktemp("genes") / "cohort"))
    rewrite(cohort / "tiny_1" / "filtered_feature_bc_matrix.h5", np.arange(GENES), silent=SILENT)
    rewrite(cohort / "tiny_2" / "filtered_feature_bc_matrix.h5", KEPT)
    rewrite(cohort / "tiny_3" / "filtered_feature_bc_matrix.h5", np.arange(GENES), extra=True)
    return cohort


def built(cohort: Path, out: Path, slides: tuple[str, ...] = ()) -> ShardSet:
    assert build(BuildConfig((SourceEntry("space_ranger", cohort),), only=slides), out).failed == {}
    return ShardSet(out)


@pytest.fixture(scope="module")
def shards(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    return built(cohort, tmp_path_factory.mktemp("genes") / "set")


@pytest.fixture(scope="module")
def training(shards: ShardSet) -> tuple[list[SlideShard], GeneTable]:
    return list(shards.slides.values())[:2], shards.genes


def symbols(genes: np.ndarray, table: GeneTable) -> list[str]:
    return [table.symbols[gene] for gene in genes]


def test_a_gene_is_detected_where_a_spot_counts_it(training: tuple[list[SlideShard], GeneTable]) -> None:
    slides, table = training
    times = np.zeros(len(table), int)
    for slide in slides:  # from the h5ad, which the selection does not read
        adata = anndata.read_h5ad(slide.folder / slide.record.h5ad)
        times[adata.var["gene_index"].to_numpy()] += np.asarray((adata.X > 0).sum(axis=0)).ravel() > 0
    assert count_detections(slides, table, spots=64).tolist() == times.tolist()
    assert set(times) == {0, 1, 2}
    assert times[table.lookup(f"GENE{SILENT + 1}")] == 1
    assert count_detections(slides, table, spots=1).sum() < times.sum()


def test_detection_is_a_share_of_all_training_slides(training: tuple[list[SlideShard], GeneTable]) -> None:
    """A slide that did not measure a gene counts as one without it."""
    slides, table = training
    times = count_detections(slides, table, spots=2000)
    for share, least in ((0.5, 1), (0.51, 2), (1.0, 2)):
        chosen = choose_genes(slides, table, GeneSelection(n=None, detected=share))
        assert sorted(chosen) == np.flatnonzero(times >= least).tolist()
    names = [f"GENE{gene + 1}" for gene in KEPT if gene != SILENT]
    assert sorted(symbols(chosen, table)) == sorted(names)
    first = [gene for gene in rank_genes(slides, table, GeneSelection(n=3)) if times[gene] == 2]
    assert choose_genes(slides, table, GeneSelection(n=3, detected=1.0)).tolist() == first[:3]
    always = choose_genes(slides, table, GeneSelection(n=3, detected=1.0, always=(f"GENE{SILENT + 1}",)))
    assert set(symbols(always, table)) == {*symbols(first[:2], table), f"GENE{SILENT + 1}"}


def test_all_takes_every_gene_in_the_order_of_rank(training: tuple[list[SlideShard], GeneTable]) -> None:
    slides, table = training
    ranked = rank_genes(slides, table, GeneSelection(n=5))
    assert choose_genes(slides, table, GeneSelection(n=5, method="all")).tolist() == ranked.tolist()
    assert len(ranked) == GENES


def test_a_panel_by_symbol_and_by_id_with_version(training: tuple[list[SlideShard], GeneTable], tmp_path: Path) -> None:
    slides, table = training
    wanted = [table.lookup(f"GENE{number}") for number in (1, 7, 20)]
    lines = ["# my markers", "GENE1", "", table.ids[wanted[1]], f"{table.ids[wanted[2]]}.13", "GENE1"]
    panel = tmp_path / "panel.txt"
    panel.write_text("\ufeff" + "\r\n".join(lines), encoding="utf-8")
    chosen = choose_genes(slides, table, GeneSelection(panel=str(panel)))
    assert sorted(chosen) == sorted(wanted)
    ranked = rank_genes(slides, table, GeneSelection()).tolist()
    assert chosen.tolist() == sorted(wanted, key=ranked.index)
    first = [gene for gene in rank_genes(slides, table, GeneSelection(n=2)) if gene in wanted]
    assert choose_genes(slides, table, GeneSelection(n=2, panel=str(panel))).tolist() == first[:2]
    more = choose_genes(slides, table, GeneSelection(method="all", panel=str(panel), always=("GENE3",)))
    assert set(symbols(more, table)) == {"GENE1", "GENE7", "GENE20", "GENE3"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("GENE1\nTP53\nENSG9\n", r"2 names that the set's genes.tsv does not have: 'TP53', 'ENSG9'"),
        (f"GENE1\n{EXTRA[1]}\n", r"1 genes that no training slide measured: 'AAA1'"),
        ("# nothing\n", "is empty; one gene name a line"),
        ("GENE1\tENSG1\n", r"has the line 'GENE1\\tENSG1'; one gene name a line"),
    ],
)
def test_a_wrong_panel_is_named(
    text: str, said: str, training: tuple[list[SlideShard], GeneTable], tmp_path: Path
) -> None:
    (tmp_path / "panel.txt").write_text(text)
    with pytest.raises(ConfigError, match=said):
        choose_genes(*training, GeneSelection(panel=str(tmp_path / "panel.txt")))
    with pytest.raises(ConfigError, match="there is no file"):
        choose_genes(*training, GeneSelection(panel=str(tmp_path / "none.txt")))


def test_a_selection_that_cannot_be(training: tuple[list[SlideShard], GeneTable], tmp_path: Path) -> None:
    for wrong, said in (
        ({"n": 0}, r"data.genes.n is 0; at least 1"),
        ({"spots": 0}, r"data.genes.spots is 0"),
        ({"detected": 1.5}, r"data.genes.detected is 1.5"),
        ({"method": "seurat"}, r"data.genes.method is 'seurat'; known: variable, all"),
    ):
        with pytest.raises(ConfigError, match=said):
            GeneSelection(**wrong)
    (tmp_path / "panel.txt").write_text(f"GENE{SILENT + 1}\n")
    with pytest.raises(ConfigError, match=r"leaves no gene: 40 are measured by 2 training slides, detected is 1.0"):
        choose_genes(*training, GeneSelection(detected=1.0, panel=str(tmp_path / "panel.txt")))


@pytest.mark.parametrize("selection", [GeneSelection(n=12), GeneSelection(n=6, detected=1.0)], ids=["n", "detected"])
def test_an_added_test_slide_changes_nothing(
    selection: GeneSelection, cohort: Path, shards: ShardSet, tmp_path: Path
) -> None:
    """Though it shifts every gene's index: it brings a gene of its own, counted in all its spots."""
    without = built(cohort, tmp_path / "set", ("tiny_1", "tiny_2"))
    assert len(shards.genes) == len(without.genes) + 1
    found = [build_vocabulary(list(each.slides.values())[:2], each.genes, selection) for each in (shards, without)]
    names = [symbols(v.ranked, each.genes) for v, each in zip(found, (shards, without), strict=True)]
    assert names[0] == names[1]
    assert found[0].genes.tolist() != found[1].genes.tolist()
    for field in ("share", "mean", "sd"):
        np.testing.assert_array_equal(getattr(found[0], field), getattr(found[1], field))


def test_slides_that_measured_few_genes_are_named(training: tuple[list[SlideShard], GeneTable]) -> None:
    slides, table = training
    vocabulary = build_vocabulary(slides, table, GeneSelection(n=None))
    (line,) = report_few_measured(vocabulary, slides, table)
    absent = [name for name in symbols(vocabulary.ranked, table) if int(name[4:]) - 1 not in KEPT]
    assert line == f"tiny_2 measured 10 of 40 genes; not: {', '.join(absent[:8])} and 22 more"
    assert count_measured(vocabulary, slides) == {"tiny_2": 10}
    shared = build_vocabulary(slides, table, GeneSelection(method="all", detected=1.0))
    assert report_few_measured(shared, slides, table) == []
    assert count_measured(shared, slides) == {}


def test_the_genes_command_writes_the_file_of_a_run(
    shards: ShardSet, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    split = make_split(read_slides(shards.folder), SplitRequest("leave_one_patient_out", val=0))
    split.write(tmp_path / "split.json")
    given = [str(shards.folder), "--split", str(tmp_path / "split.json"), "--out", str(tmp_path / "genes.tsv")]
    monkeypatch.setattr(sys, "argv", ["stalign_pl", "genes", *given, "--fold", "P3", "--n", "12"])
    assert main() == 0
    printed = capsys.readouterr().out
    slides = list(shards.slides.values())[:2]
    vocabulary = build_vocabulary(slides, shards.genes, GeneSelection(n=12))
    head, columns, *rows = (tmp_path / "genes.tsv").read_text().splitlines()
    assert head == f"# selection {vocabulary.digest()}\tgene_table {shards.genes.digest()}\tsplit {split.sha256()}"
    assert columns.split("\t") == ["index", "ensembl_id", "symbol", "rank", "share", "mean", "sd"]
    table = [row.split("\t") for row in rows]
    assert [int(row[0]) for row in table] == vocabulary.genes.tolist()
    by_rank = [row[2] for row in sorted(table, key=lambda row: int(row[3]))]
    assert by_rank == symbols(vocabulary.ranked, shards.genes)
    for column, values in ((4, vocabulary.share), (5, vocabulary.mean), (6, vocabulary.sd)):
        np.testing.assert_allclose([float(row[column]) for row in table], values, rtol=1e-5)
    assert f"genes: 12 of 41, selection {vocabulary.digest()[:12]}" in printed
    assert "tiny_2 measured" in printed
    monkeypatch.setattr(sys, "argv", ["stalign_pl", "genes", *given])
    assert main() == 1
    assert "data.fold names none; folds: P1, P2, P3" in capsys.readouterr().err
