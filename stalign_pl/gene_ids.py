"""What an Ensembl gene id looks like: ENSG00000141510, with a version ENSG00000141510.18; which species it is of.

The one place that knows it. Standard library only.
"""

from __future__ import annotations

import re

_GENE_ID = re.compile(r"^(ENS[A-Z]*G\d+)(\.\d+)?$")

SPECIES_PREFIXES = {"human": "ENSG", "mouse": "ENSMUSG", "rat": "ENSRNOG"}
"""Species to the letters before the number of its gene ids."""

_SPECIES_OF_PREFIX = {prefix: species for species, prefix in SPECIES_PREFIXES.items()}


def is_ensembl_gene(name: str) -> bool:
    """Whether a name is an Ensembl gene id, with or without a version."""
    return _GENE_ID.match(name) is not None


def find_ensembl_id(name: str) -> str:
    """Returns the Ensembl gene id that a name is, without its version; '' for any other name, such as a symbol."""
    found = _GENE_ID.match(name)
    return found.group(1) if found else ""


def without_version(name: str) -> str:
    """Returns a gene id without its version; any other name as it is."""
    return _GENE_ID.sub(r"\1", name)


def species_of(gene_id: str) -> str | None:
    """Returns the species of a gene id without version, by its letters; None for a species not in SPECIES_PREFIXES."""
    return _SPECIES_OF_PREFIX.get(gene_id.rstrip("0123456789"))
