"""The slow, plain form of what the objectives compute, written from the formulas; and batches to try it on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from stalign_pl.batch.spot_ids import SpotIds

CLUSTERS = 4


def negatives_of(i: int, ids: SpotIds) -> Iterator[tuple[int, bool]]:
    """The columns that row i is contrasted with, but its own, and whether each is of another slide."""
    slide, spot, excluded = ids.slide.tolist(), ids.spot.tolist(), ids.excluded.tolist()
    for j in range(len(slide)):
        near = spot[j] == spot[i] or spot[j] in excluded[i] or spot[i] in excluded[j]
        if ids.valid[j] and j != i and not (slide[j] == slide[i] and near):
            yield j, slide[j] != slide[i]


def info_nce(a: Tensor, b: Tensor, log_scale: Tensor, ids: SpotIds, other_slides: float = 1.0) -> Tensor:
    """Symmetric InfoNCE by loops over the global batch's valid rows and their columns."""
    a, b, total = a / a.norm(dim=1, keepdim=True), b / b.norm(dim=1, keepdim=True), 0
    rows = [i for i in range(len(a)) if ids.valid[i]]
    for i in rows:
        for u, v in ((a, b), (b, a)):
            own = torch.exp(log_scale.exp() * (u[i] * v[i]).sum())
            everything = own
            for j, elsewhere in negatives_of(i, ids):
                weight = other_slides if elsewhere else 1
                everything = everything + weight * torch.exp(log_scale.exp() * (u[i] * v[j]).sum())
            total = total - torch.log(own / everything) / 2
    return total / len(rows)


def sigmoid(a: Tensor, b: Tensor, log_scale: Tensor, bias: Tensor, ids: SpotIds, other_slides: float = 1.0) -> Tensor:
    """The sigmoid loss by loops: yes for the partner, no for every negative."""
    a, b, total = a / a.norm(dim=1, keepdim=True), b / b.norm(dim=1, keepdim=True), 0
    rows = [i for i in range(len(a)) if ids.valid[i]]
    for i in rows:
        total = total - functional.logsigmoid(log_scale.exp() * (a[i] * b[i]).sum() + bias)
        for j, elsewhere in negatives_of(i, ids):
            weight = other_slides if elsewhere else 1
            total = total - weight * functional.logsigmoid(-(log_scale.exp() * (a[i] * b[j]).sum() + bias))
    return total / len(rows)


def paired_columns(i: int, ids: SpotIds) -> list[int]:
    """Row i's paired negatives by the stated rule, a list of columns."""
    candidates = [j for j, elsewhere in negatives_of(i, ids) if not elsewhere and ids.cluster[j] != ids.cluster[i]]
    by_cluster = sorted(candidates, key=lambda j: int(ids.cluster[j]))
    chosen = []
    for cluster in range(CLUSTERS):
        if cluster != ids.cluster[i] and candidates:
            pool = [j for j in candidates if ids.cluster[j] == cluster] or by_cluster
            chosen.append(pool[int(ids.draws[i, cluster] * len(pool))])
    return chosen


def paired(a: Tensor, b: Tensor, log_scale: Tensor, ids: SpotIds) -> Tensor:
    """InfoNCE a -> b against the paired negatives alone, by loops."""
    a, b, total = a / a.norm(dim=1, keepdim=True), b / b.norm(dim=1, keepdim=True), 0
    rows = [i for i in range(len(a)) if ids.valid[i]]
    for i in rows:
        scores = torch.stack([torch.exp(log_scale.exp() * (a[i] * b[j]).sum()) for j in [i, *paired_columns(i, ids)]])
        total = total - torch.log(scores[0] / scores.sum())
    return total / len(rows)


def batch_ids(rows: int, seed: int, slides: int = 3, padding: Sequence[int] = (), listed: int = 4) -> SpotIds:
    """Random ids: spots of a 1-D slide whose neighbours within 2 are listed, some of them on one side only."""
    generator = torch.Generator().manual_seed(seed)
    slide = torch.randint(slides, (rows,), generator=generator)
    spot = torch.randperm(4 * rows, generator=generator)[:rows] % (2 * rows)
    offsets = torch.tensor([-2, -1, 1, 2])[:listed]
    excluded = spot[:, None] + offsets
    excluded[torch.rand(excluded.shape, generator=generator) < 0.4] = -1
    excluded = excluded.clamp(min=-1)
    valid = torch.ones(rows, dtype=torch.bool)
    valid[list(padding)] = False
    slide[~valid], spot[~valid] = 0, 0
    cluster = torch.randint(CLUSTERS, (rows,), generator=generator)
    cluster[~valid] = -1
    return SpotIds(slide, spot, excluded, valid, cluster, torch.rand(rows, CLUSTERS, generator=generator))


def part(ids: SpotIds, rows: slice) -> SpotIds:
    """The rows of `ids` that a slice names."""
    return SpotIds(
        ids.slide[rows], ids.spot[rows], ids.excluded[rows], ids.valid[rows], ids.cluster[rows], ids.draws[rows]
    )
