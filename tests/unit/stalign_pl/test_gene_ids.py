"""Ensembl gene ids: recognised, cut off their version, told by species."""

from __future__ import annotations

import pytest

from stalign_pl.gene_ids import SPECIES_PREFIXES, find_ensembl_id, is_ensembl_gene, species_of, without_version

OTHERS = (
    "", "TP53", "ENSG", "ENSG00000141510.", "ENSG00000141510.a", "ENST00000269305", "ensg00000141510",
    " ENSG00000141510", "xENSG00000141510", "FO538757.1", "GRCh38_ENSG00000141510", "ENSG00000182378.15_PAR_Y",
)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "gene"),
    [
        ("ENSG00000141510", "ENSG00000141510"),
        ("ENSG00000141510.18", "ENSG00000141510"),
        ("ENSMUSG00000059552.8", "ENSMUSG00000059552"),
        ("ENSRNOG00000010756", "ENSRNOG00000010756"),
        ("ENSDARG00000035559.1", "ENSDARG00000035559"),
    ],
)
def test_ids_lose_their_version(name: str, gene: str) -> None:
    assert is_ensembl_gene(name)
    assert find_ensembl_id(name) == gene
    assert without_version(name) == gene


@pytest.mark.parametrize("name", OTHERS)
def test_other_names_stay(name: str) -> None:
    assert not is_ensembl_gene(name)
    assert find_ensembl_id(name) == ""
    assert without_version(name) == name


def test_species_by_prefix() -> None:
    assert {species_of(f"{prefix}00000012345"): prefix for prefix in SPECIES_PREFIXES.values()} == SPECIES_PREFIXES
    assert species_of("ENSDARG00000035559") is None
    assert species_of("TP53") is None
