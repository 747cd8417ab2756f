"""Pairwise sigmoid loss (SigLIP) over the global batch, exact in value and gradient, a chunk of rows at a time."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.autograd.function import BackwardCFunction, once_differentiable

from stalign_pl.objectives.contrastive import Contrast, UnitVectors, pick_own_similarity
from stalign_pl.objectives.pairs import Masks, Pairs
from stalign_pl.objectives.retrieval import Retrieval


def pairwise_sigmoid(
    a: Tensor, b: Tensor, log_scale: Tensor, bias: Tensor, pairs: Pairs, retrieval: Retrieval | None = None
) -> Contrast:
    """Every pair is a yes-or-no question of its own (Zhai et al. 2023, algorithm 1, with masked, weighted negatives).

    With u = a / |a|, v = b / |b|, l_ij = exp(log_scale) u_i v_j + bias, w_ij = 1 where j is of row i's slide and
    `pairs.other_slides` else: loss_i = softplus(-l_ii) + sum_j w_ij softplus(l_ij) over the negatives j of i; the loss
    is the sum over the valid rows of all ranks by their number. Float32 whatever autocast says.

    Memory: about 2 [chunk, N] of float, and [N, D] gathered. Two collectives: a gather, and an all-reduce in backward.
    The gradient is worked out in the forward pass, so no logits are kept for it or computed again.

    Args:
        a: [b, D], not normalised, the same shape on every rank.
        b: [b, D], likewise.
        log_scale: scalar, log(1 / temperature).
        bias: scalar, added to every logit.
        pairs: who is contrasted with whom.
        retrieval: sees every similarity, for diagnostics.
    """
    with torch.autocast(a.device.type, enabled=False):
        unit = UnitVectors.of(a, b, pairs)
        log_scale, bias = log_scale.to(unit.a.dtype), bias.to(unit.a.dtype)
        wanted = torch.is_grad_enabled() and any(t.requires_grad for t in (unit.a, unit.all_b, log_scale, bias))
        share = _PairwiseSigmoid.apply(unit.a, unit.all_b, log_scale, bias, pairs, retrieval, wanted)
    return unit.contrast(pairs.world.size * share)


class _PairwiseSigmoid(torch.autograd.Function):
    """This rank's share of the loss: its rows of a with all rows of b."""

    @staticmethod
    def forward(
        ctx: BackwardCFunction,
        a: Tensor,
        all_b: Tensor,
        log_scale: Tensor,
        bias: Tensor,
        pairs: Pairs,
        retrieval: Retrieval | None,
        wanted: bool,
    ) -> Tensor:
        scaled, total = log_scale.exp() * a, a.new_zeros(())
        to_scaled, to_b, to_bias = torch.zeros_like(a), torch.zeros_like(all_b), a.new_zeros(())
        for rows in pairs.chunks:
            logits = masks = push = None  # those of the chunk before, freed before there are new ones
            logits, masks = torch.addmm(bias, scaled[rows], all_b.T), pairs.masks(rows)
            if retrieval is not None:
                retrieval.see(rows, logits, masks)
            own, valid = pick_own_similarity(logits, masks.positive), pairs.valid[rows]
            total += torch.where(valid, nn.functional.softplus(-own), 0).sum()
            _keep_negatives(logits, masks)
            total += _weigh(nn.functional.softplus(logits), masks, pairs.other_slides).sum()
            if not wanted:
                continue
            push = _weigh(logits.sigmoid_(), masks, pairs.other_slides)
            push.scatter_(1, masks.positive[:, None], torch.where(valid, -torch.sigmoid(-own), 0)[:, None])
            to_scaled[rows] = push @ all_b
            to_b.addmm_(push.T, scaled[rows])
            to_bias += push.sum()
        if wanted:
            to_a, to_scale = to_scaled * log_scale.exp(), (to_scaled * scaled).sum()
            ctx.save_for_backward(*(part / pairs.valid_count for part in (to_a, to_b, to_scale, to_bias)))
        return total / pairs.valid_count

    @staticmethod
    @once_differentiable
    def backward(ctx: BackwardCFunction, gradient: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]  (the decorator's type)
        return (*(gradient * part for part in ctx.saved_tensors), None, None, None)


def _keep_negatives(logits: Tensor, masks: Masks) -> None:
    """In place: -inf, of which softplus and sigmoid are 0, at the positives and where not contrasted."""
    logits.masked_fill_(~masks.contrasted, -torch.inf)
    logits.scatter_(1, masks.positive[:, None], -torch.inf)


def _weigh(terms: Tensor, masks: Masks, other_slides: float) -> Tensor:
    """The terms [c, N], those of other slides times their weight, in place."""
    if 0 < other_slides < 1:
        terms.addcmul_(terms, masks.other_slide.to(terms.dtype), value=other_slides - 1)
    return terms
