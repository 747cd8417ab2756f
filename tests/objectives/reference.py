"""The slow, plain form of what the objectives compute, written from the formulas; and batches to try it on."""

import torch

from stalign_pl.objectives import SpotIds


def info_nce(a, b, log_scale, ids, same_slide_only=False):
    """Symmetric InfoNCE by loops over the global batch's valid rows and their columns."""
    a, b, total = a / a.norm(dim=1, keepdim=True), b / b.norm(dim=1, keepdim=True), 0
    slide, spot, excluded = ids.slide.tolist(), ids.spot.tolist(), ids.excluded.tolist()
    rows = [i for i in range(len(slide)) if ids.valid[i]]
    for i in rows:
        same = [slide[j] == slide[i] for j in range(len(slide))]
        near = [spot[j] == spot[i] or spot[j] in excluded[i] or spot[i] in excluded[j] for j in range(len(slide))]
        keep = [j for j in rows if j == i or not ((same[j] and near[j]) or (same_slide_only and not same[j]))]
        for u, v in ((a, b), (b, a)):
            scores = torch.stack([torch.exp(log_scale.exp() * (u[i] * v[j]).sum()) for j in keep])
            total = total - torch.log(scores[keep.index(i)] / scores.sum()) / 2
    return total / len(rows)


def batch_ids(rows, seed, slides=3, padding=(), listed=4):
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
    return SpotIds(slide, spot, excluded, valid)


def part(ids, rows):
    """The rows of `ids` that a slice names."""
    return SpotIds(ids.slide[rows], ids.spot[rows], ids.excluded[rows], ids.valid[rows])
