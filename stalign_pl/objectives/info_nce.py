"""Symmetric InfoNCE over the global batch, exact in value and gradient, never holding all of a rank's logits."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.autograd.function import BackwardCFunction, once_differentiable

from stalign_pl.distributed import all_gather
from stalign_pl.objectives.contrastive import Contrast, UnitVectors, pick_own_similarity
from stalign_pl.objectives.pairs import Masks, Pairs
from stalign_pl.objectives.retrieval import Retrieval


def symmetric_info_nce(
    a: Tensor, b: Tensor, log_scale: Tensor, pairs: Pairs, retrieval: Retrieval | None = None
) -> Contrast:
    """InfoNCE in both directions (van den Oord et al. 2018; Radford et al. 2021, with masked, weighted negatives).

    For valid row i, with u = a / |a|, v = b / |b|, s = exp(log_scale) and w_ij = 1 where j is i or of its slide, and
    `pairs.other_slides` else: loss_i = -log(exp(s u_i v_i) / sum_j w_ij exp(s u_i v_j)) / 2 over the columns j that i
    is contrasted with, and the same with u and v exchanged; the loss is the sum over the valid rows of all ranks by
    their number. Logits and loss are float32 whatever autocast says.

    Who is contrasted with whom is symmetric, so that one block of logits, local rows of a by all columns of b, serves
    both directions: the normaliser of a column is summed over chunks and ranks. The gradient is worked out in the
    forward pass, chunk by chunk, each chunk's logits computed a second time (unless there is one chunk alone).

    Memory: about 3 [chunk, N] of float, and [N, D] gathered. Three collectives: two gathers, and an all-reduce in
    backward.

    Args:
        a: [b, D], not normalised, the same shape on every rank.
        b: [b, D], likewise.
        log_scale: scalar, log(1 / temperature).
        pairs: who is contrasted with whom.
        retrieval: sees every similarity, for diagnostics.
    """
    with torch.autocast(a.device.type, enabled=False):
        unit = UnitVectors.of(a, b, pairs)
        log_scale = log_scale.to(unit.a.dtype)
        wanted = torch.is_grad_enabled() and any(t.requires_grad for t in (unit.a, unit.all_b, log_scale))
        share = _SymmetricInfoNCE.apply(unit.a, unit.all_b, log_scale, pairs, retrieval, wanted)
    return unit.contrast(pairs.world.size * share)


class _SymmetricInfoNCE(torch.autograd.Function):
    """This rank's share of the loss. Its gradient is not the share's but this rank's part of the global loss's: that of
    all terms in which its rows of a occur. Summed over ranks the two are the same."""

    @staticmethod
    def forward(
        ctx: BackwardCFunction,
        a: Tensor,
        all_b: Tensor,
        log_scale: Tensor,
        pairs: Pairs,
        retrieval: Retrieval | None,
        wanted: bool,
    ) -> Tensor:
        scaled = log_scale.exp() * a
        own, of_rows, of_columns = a.new_empty(len(a)), a.new_empty(len(a)), a.new_full((len(all_b),), -torch.inf)
        logits: Tensor | None = None
        for rows in pairs.chunks:
            logits = masks = None  # those of the chunk before, freed before there are new ones
            logits, masks = scaled[rows] @ all_b.T, pairs.masks(rows)
            own[rows] = pick_own_similarity(logits, masks.positive)
            if retrieval is not None:
                retrieval.see(rows, logits, masks)
            _weigh(logits, masks, pairs.other_slides)
            of_rows[rows] = logits.logsumexp(1)
            of_columns = torch.logaddexp(of_columns, logits.logsumexp(0))
        of_columns = all_gather(of_columns[None], pairs.world).logsumexp(0)
        here = of_columns[pairs.world.rows(len(a))]
        share = torch.where(pairs.valid, (of_rows + here) / 2 - own, 0).sum() / pairs.valid_count
        if wanted:
            last = logits if len(pairs.chunks) == 1 else None
            to_scaled, to_b = _compute_gradients(all_b, scaled, of_rows, of_columns, pairs, last)
            ctx.save_for_backward(to_scaled * log_scale.exp(), to_b, (to_scaled * scaled).sum())
        return share

    @staticmethod
    @once_differentiable
    def backward(ctx: BackwardCFunction, gradient: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]  (the decorator's type)
        return (*(gradient * part for part in ctx.saved_tensors), None, None, None)


def _compute_gradients(
    all_b: Tensor, scaled: Tensor, of_rows: Tensor, of_columns: Tensor, pairs: Pairs, logits: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The gradients of scaled [b, D] and of all_b [N, D].

    Args:
        all_b: [N, D].
        scaled: [b, D], a times the scale.
        of_rows: [b], log of each row's normaliser.
        of_columns: [N], log of each column's.
        pairs: who is contrasted with whom.
        logits: those of the only chunk, weighed; None computes them again.
    """
    to_scaled, to_b = torch.empty_like(scaled), torch.zeros_like(all_b)
    for rows in pairs.chunks:
        masks = pairs.masks(rows)
        if logits is None:
            logits = scaled[rows] @ all_b.T
            _weigh(logits, masks, pairs.other_slides)
        # Both directions' softmax, less 1 each at the positive. A row of padding is contrasted with itself alone, where
        # this is 1 + 1 - 2.
        push = (logits - of_rows[rows, None]).exp_()
        push += logits.sub_(of_columns).exp_()
        push.scatter_add_(1, masks.positive[:, None], push.new_full((len(push), 1), -2))
        logits = masks = None
        to_scaled[rows] = push @ all_b
        to_b.addmm_(push.T, scaled[rows])
        push = None
    return to_scaled / (2 * pairs.valid_count), to_b / (2 * pairs.valid_count)


def _weigh(logits: Tensor, masks: Masks, other_slides: float) -> None:
    """In place: log weights added, -inf where not contrasted."""
    if 0 < other_slides < 1:
        logits.add_(masks.other_slide, alpha=math.log(other_slides))
    logits.masked_fill_(~masks.contrasted, -torch.inf)
