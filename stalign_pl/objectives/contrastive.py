"""Symmetric InfoNCE over the global batch, exact in value and gradient on any number of processes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from stalign_pl.objectives.gather import all_gather
from stalign_pl.objectives.pairs import Pairs


@dataclass(frozen=True)
class Contrast:
    """One contrast, and what diagnostics read from it (detached; float32, or float64 where the embeddings are).

    Attributes:
        loss: scalar with gradient, this rank's share times world.size: the mean over ranks is the global loss.
        logits_ab, logits_ba: [b, N], local rows of a (of b) against all columns of b (of a), nothing masked.
        a, b: [b, D], the local embeddings, L2-normalised; zero where not valid.
        all_a, all_b: [N, D], those of all ranks.
    """

    loss: Tensor
    logits_ab: Tensor
    logits_ba: Tensor
    a: Tensor
    b: Tensor
    all_a: Tensor
    all_b: Tensor


def symmetric_info_nce(a: Tensor, b: Tensor, log_scale: Tensor, pairs: Pairs) -> Contrast:
    """InfoNCE in both directions (van den Oord et al. 2018; Radford et al. 2021, with masked negatives).

    For valid row i, with u = a / |a|, v = b / |b|, s = exp(log_scale) and C_i the columns it is contrasted with:
    loss_i = -(log softmax_{j in C_i}(s u_i v_j) at j = i, and the same with u and v exchanged) / 2; the loss is the sum
    over the valid rows of all ranks by their number. Logits and loss are float32 whatever autocast says.

    Memory: 4 [b, N] of float, and [N, 2 D] gathered. Two collectives: a gather, and an all-reduce in backward.

    Args:
        a, b: [b, D], not normalised, the same shape on every rank.
        log_scale: scalar, log(1 / temperature).
        pairs: `Pairs.of(ids, world)`.
    """
    world = pairs.world
    with torch.autocast(a.device.type, enabled=False):
        a, b = _unit(a, pairs.valid), _unit(b, pairs.valid)
        all_a, all_b = all_gather(torch.cat((a, b), dim=1), world).split(a.shape[1], dim=1)
        scale = log_scale.to(a.dtype).exp()
        logits_ab, logits_ba = scale * a @ all_b.T, scale * b @ all_a.T
        rows = (_cross_entropy(logits_ab, pairs) + _cross_entropy(logits_ba, pairs)) / 2
        share = torch.where(pairs.valid, rows, 0).sum() / pairs.valid_count
    detached = (tensor.detach() for tensor in (logits_ab, logits_ba, a, b, all_a, all_b))
    return Contrast(world.size * share, *detached)


def _unit(embedding: Tensor, valid: Tensor) -> Tensor:
    """L2-normalised rows in float32 or float64; rows not valid are 0, so that even a NaN there reaches nobody."""
    embedding = embedding.to(torch.promote_types(embedding.dtype, torch.float32))
    return F.normalize(torch.where(valid[:, None], embedding, 0), dim=1)


def _cross_entropy(logits: Tensor, pairs: Pairs) -> Tensor:
    """[b]: minus the log-probability of each row's own column among those it is contrasted with."""
    return F.cross_entropy(logits.masked_fill(~pairs.contrasted, -torch.inf), pairs.positive, reduction="none")
