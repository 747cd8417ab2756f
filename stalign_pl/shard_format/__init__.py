"""What a shard set is on disk: names, keys, dtypes, version. `data_prep` writes by it, `stalign_pl.data` reads by it.

One slide is one tar of WebDataset samples (one spot a sample), and beside it an AnnData file and two memory-mapped
arrays. Nothing here imports torch, anndata or webdataset.

    manifest.json           Manifest: format version, build settings, one SlideRecord a slide
    genes.tsv               GeneTable: row number = the gene index used in every file of the set
    panel-<hash>.npy        int32 [n], sorted: the gene indices that a slide measured (slides on one panel share it)
    <stem>.tar              per spot: spot.{png,jpg} niche.{png,jpg} genes.npy neighbors.npy meta.json
    <stem>.h5ad             the slide for people and for evaluation: raw counts, positions, labels, neighbour graph
    <stem>.counts.npy       uint16|uint32 [2, nnz]: gene index; raw count; the spots in order, see INDEX
    <stem>.index.npy        int64 [N, len(INDEX)], row = spot index
    <stem>.json             the slide's SlideRecord; the manifest is put together from these
"""

from stalign_pl.shard_format.gene_table import GeneTable
from stalign_pl.shard_format.index import (
    BOX_MEMBERS,
    DUPLICATES,
    INDEX,
    INDEX_COLUMN,
    LOSSLESS_BELOW_PX,
    MAX_SIDE_PX,
    MEMBERS,
    make_file_stem,
    make_sample_key,
    make_tar_name,
)
from stalign_pl.shard_format.manifest import FORMAT_VERSION, Manifest, SlideRecord

__all__ = [
    "BOX_MEMBERS",
    "DUPLICATES",
    "FORMAT_VERSION",
    "INDEX",
    "INDEX_COLUMN",
    "LOSSLESS_BELOW_PX",
    "MAX_SIDE_PX",
    "MEMBERS",
    "GeneTable",
    "Manifest",
    "SlideRecord",
    "make_file_stem",
    "make_sample_key",
    "make_tar_name",
]
