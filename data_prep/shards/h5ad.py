"""The slide as an AnnData file, for people (scanpy and squidpy open and plot it) and for evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from data_prep.shards.niches import Neighbors
from data_prep.slide.slide import Slide
from stalign_pl.files import replace_file
from stalign_pl.shard_format import FORMAT_VERSION, GeneTable

if TYPE_CHECKING:
    import pandas as pd


def write_h5ad(
    path: Path,
    slide: Slide,
    picture: np.ndarray,
    image_width: int,
    counts: sparse.csr_matrix,
    measured: np.ndarray,
    table: GeneTable,
    neighbors: Neighbors,
) -> None:
    """Write a slide: raw counts over its measured genes, labels, positions, first ring, thumbnail, provenance.

    X is CSR float32 [N, n], whole numbers (exact: counts are below 2^24); obsm['spatial'] float64 [N, 2], (x, y) in
    full-resolution pixels; var has ensembl_id, symbol and gene_index (row of genes.tsv). A spot without a label is
    missing in its categorical column.

    Args:
        picture: uint8 [h, w, 3], the thumbnail of an image of `image_width` px.
        counts: [N, n] CSR float32 over `measured`, int gene indices into `table`.
    """
    import anndata
    import pandas as pd

    columns = {
        "slide": _make_categories(np.full(len(slide), slide.name)),
        "patient": _make_categories(np.full(len(slide), slide.patient)),
    }
    if slide.grid is not None:
        columns |= {"array_row": slide.grid[:, 1].astype(np.int64), "array_col": slide.grid[:, 0].astype(np.int64)}
    columns |= {column: _make_categories(values) for column, values in slide.labels.items()}
    adata = anndata.AnnData(
        X=counts,
        obs=pd.DataFrame(columns, index=pd.Index(slide.barcodes.astype(str), dtype=object)),
        var=_make_gene_frame(table, measured),
    )
    adata.obsm["spatial"] = slide.xy
    adata.obsp["spatial_connectivities"] = make_first_ring(neighbors)
    adata.uns["spatial"] = {slide.name.replace("/", "_"): _make_picture_entry(slide, picture, image_width)}
    adata.uns["stalign_source"] = _make_provenance(slide)
    with replace_file(path) as temporary:
        adata.write_h5ad(temporary)


def make_first_ring(neighbors: Neighbors) -> sparse.csr_matrix:
    """Make the graph float32 [N, N], 1 between spots of the first ring."""
    ends = neighbors.ring_ends[:, 0].astype(np.int64)
    place = np.arange(neighbors.indices.shape[1])[None, :] < ends[:, None]
    bounds = np.concatenate([[0], np.cumsum(ends)])
    graph = sparse.csr_matrix(
        (np.ones(bounds[-1], np.float32), neighbors.indices[place], bounds), shape=(len(ends), len(ends))
    )
    graph.sort_indices()
    return graph


def _make_categories(values: np.ndarray) -> pd.Categorical:
    import pandas as pd

    present = sorted({str(value) for value in values} - {""})
    return pd.Categorical([str(value) if value else None for value in values], categories=present)


def _make_gene_frame(table: GeneTable, measured: np.ndarray) -> pd.DataFrame:
    import pandas as pd

    ids = [table.ids[gene] for gene in measured]
    symbols = [table.symbols[gene] for gene in measured]
    names, taken = [], set()
    for gene, symbol in zip(ids, symbols, strict=True):
        # A repeated symbol goes by its id; the first keeps the symbol. Symbols without id are unique in the table.
        name = symbol if symbol and symbol not in taken else gene or symbol
        names.append(name)
        taken.add(name)
    return pd.DataFrame(
        {"ensembl_id": ids, "symbol": symbols, "gene_index": np.asarray(measured, np.int64)},
        index=pd.Index(names, dtype=object),
    )


def _make_picture_entry(slide: Slide, picture: np.ndarray, image_width: int) -> dict[str, object]:
    return {
        "images": {"lowres": picture},
        "scalefactors": {
            "tissue_lowres_scalef": slide.image.scale * picture.shape[1] / image_width,
            "spot_diameter_fullres": slide.spot_um / slide.um_per_px,
        },
        "metadata": {},
    }


def _make_provenance(slide: Slide) -> dict[str, str]:
    return {
        "source": slide.source,
        "study": slide.study,
        "species": slide.species,
        "tissue": slide.tissue,
        "technology": slide.technology,
        "licence": slide.licence,
        "lattice": slide.lattice,
        "pitch_um": f"{slide.pitch_um:g}",
        "um_per_px": f"{slide.um_per_px:.6g}",
        "image": f"{slide.image.kind}: {slide.image.path.name}",
        "shard_format_version": str(FORMAT_VERSION),
    }
