"""One slide as evaluation sees it: positions, labels, neighbours and a thumbnail, read from its h5ad."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from stalign_pl.data.shards.shard_set import SlideShard
from stalign_pl.errors import ShardError
from stalign_pl.shard_format import SlideRecord

if TYPE_CHECKING:
    from scipy import sparse


@dataclass(frozen=True)
class Section:
    """What evaluation needs of a slide.

    Attributes:
        name: the slide.
        barcodes: [N] str.
        xy_um: float64 [N, 2], micrometres.
        labels: [N] str, '' where a spot has none; None where the slide has no such column.
        neighbours: CSR [N, N], first ring.
        thumbnail: uint8 [H, W, 3].
        extent_um: (left, right, bottom, top) of the thumbnail, y down.
    """

    name: str
    barcodes: np.ndarray
    xy_um: np.ndarray
    labels: np.ndarray | None
    neighbours: sparse.csr_matrix
    thumbnail: np.ndarray
    extent_um: tuple[float, float, float, float]


def check_label(record: SlideRecord, label: str | None) -> None:
    """Look whether a slide has a label column.

    Args:
        record: of the slide; one without any labels passes.
        label: the column; None passes.

    Raises:
        ShardError: the slide has labels, and no column of them is called so.
    """
    if label is not None and record.labels and label not in record.labels:
        raise ShardError(f"slide {record.name!r} has no label column {label!r}; known: {', '.join(record.labels)}")


def read_section(slide: SlideShard, label: str | None = None) -> Section:
    """Read what evaluation needs of a slide.

    Args:
        slide: the slide.
        label: label column; None takes the slide's first, if it has one.

    Raises:
        ShardError: a label column that the slide does not have.
    """
    import anndata
    from scipy import sparse

    record = slide.record
    check_label(record, label)
    if label is None and record.labels:
        label = next(iter(record.labels))
    data = anndata.read_h5ad(slide.locate(record.h5ad))
    labels = None
    if label in record.labels:
        labels = data.obs[label].astype(object).where(data.obs[label].notna(), "").astype(str).to_numpy()
    spatial = data.uns["spatial"][record.name]
    thumbnail = np.asarray(spatial["images"]["lowres"])
    um_per_thumbnail_px = record.um_per_px / float(spatial["scalefactors"]["tissue_lowres_scalef"])
    height, width = (side * um_per_thumbnail_px for side in thumbnail.shape[:2])
    return Section(
        name=record.name,
        barcodes=data.obs_names.to_numpy(),
        xy_um=np.asarray(data.obsm["spatial"], float) * record.um_per_px,
        labels=labels,
        neighbours=sparse.csr_matrix(data.obsp["spatial_connectivities"]),
        thumbnail=thumbnail,
        extent_um=(0.0, width, height, 0.0),
    )
