"""Gene panels for tests."""

import numpy as np

from stalign_pl.batch.gene_panel import GenePanel


def plain_panel(genes: int) -> GenePanel:
    """GENE1, GENE2, ...; mean 0 and sd 1, which leave expression as it is."""
    symbols = tuple(f"GENE{number}" for number in range(1, genes + 1))
    ids = tuple(f"ENSG{number:011d}" for number in range(1, genes + 1))
    return GenePanel(symbols, ids, np.zeros(genes, np.float32), np.ones(genes, np.float32))
