"""The authors' loss: each anchor against a few spots of its own slide, one from each other cluster."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stalign_pl.errors import ConfigError
from stalign_pl.objectives.contrastive import Contrast, UnitVectors
from stalign_pl.objectives.pairs import Pairs
from stalign_pl.objectives.retrieval import Retrieval


@dataclass(frozen=True)
class PairedNegatives:
    """Which columns of the global batch are the negatives of each local row.

    Attributes:
        column: int64 [b, C], one a cluster; any column where there is none.
        present: bool [b, C]; False for the row's own cluster, for rows of padding, and in rows without a candidate.
        substitute: bool [b, C], part of `present`: a spot of another cluster than the place is for.
    """

    column: Tensor
    present: Tensor
    substitute: Tensor

    @classmethod
    def draw(cls, pairs: Pairs) -> PairedNegatives:
        """Draw them; a function of the global batch's rows and of the anchors' draws, whatever the number of ranks.

        Candidates of a row are valid rows of its slide that are not its neighbours (`SpotIds.excluded`), in the order
        of the global batch. For each other cluster the anchor's draw for it picks one of the cluster's candidates.
        Where the batch has none, the same draw picks a substitute from the candidates of all other clusters, so it may
        be one that is there already; where the batch has no candidate at all, the row has no negatives and costs
        nothing. So an anchor has C - 1 negatives or none.

        Memory: int32 [chunk, N].

        Raises:
            ConfigError: the ids have no clusters or no draws.
        """
        own, draws, cluster = pairs.ids.cluster, pairs.ids.draws, pairs.everyone.cluster
        if own is None or cluster is None or draws is None:
            raise ConfigError(
                "paired negatives need the spots' clusters: set data.clusters to a file of "
                "`python -m stalign_pl clusters SHARDS --out FILE`"
            )
        by_cluster = cluster.argsort(stable=True)
        clusters = torch.arange(draws.shape[1] + 1, device=cluster.device)
        starts = torch.searchsorted(cluster[by_cluster], clusters)  # [C + 1]
        parts = [_draw(pairs, rows, own[rows], draws[rows], by_cluster, starts) for rows in pairs.chunks]
        return cls(*(torch.cat(part) for part in zip(*parts, strict=True)))


def _draw(
    pairs: Pairs, rows: slice, own: Tensor, draws: Tensor, by_cluster: Tensor, starts: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw the fields of `PairedNegatives` for a chunk of rows.

    Args:
        pairs: of the batch.
        rows: the chunk, c rows.
        own: [c], their clusters.
        draws: [c, C], their draws.
        by_cluster: [N], the columns by cluster.
        starts: [C + 1], where each cluster begins in them.
    """
    masks = pairs.masks(rows)
    candidate = (masks.contrasted & masks.same_slide)[:, by_cluster]
    upto = candidate.cumsum(1, dtype=torch.int32)  # candidates up to and with each column
    before = torch.cat((upto.new_zeros(len(upto), 1), upto), dim=1)[:, starts].long()  # [c, C + 1]
    is_own = torch.arange(draws.shape[1], device=own.device) == own[:, None]
    count = before.diff(dim=1).masked_fill(is_own, 0)  # [c, C]
    others = count.sum(1, keepdim=True)
    # The number of the pick among the row's candidates by cluster. A substitute's is among those of other clusters, so
    # the row's own, which lie between them, are stepped over.
    pick = before[:, :-1] + _choose(draws, count)
    substitute_pick = before[:, :1] + _choose(draws, others)
    at_own = own.clamp(min=0)[:, None]
    step = before.gather(1, at_own + 1) - before.gather(1, at_own)
    substitute_pick += torch.where(substitute_pick >= before.gather(1, at_own), step, 0)
    number = torch.where(count > 0, pick, substitute_pick)
    place = torch.searchsorted(upto, (number + 1).to(torch.int32)).clamp(max=len(by_cluster) - 1)
    present = ~is_own & (others > 0)
    return by_cluster[place], present, present & (count == 0)


def _choose(draws: Tensor, count: Tensor) -> Tensor:
    """Whole numbers from 0 to count - 1 by draws in [0, 1)."""
    return (draws * count).long().minimum(count - 1).clamp(min=0)


def paired_info_nce(
    a: Tensor,
    b: Tensor,
    log_scale: Tensor,
    pairs: Pairs,
    negatives: PairedNegatives,
    retrieval: Retrieval | None = None,
) -> Contrast:
    """InfoNCE with negatives of one's own, in one direction, a -> b, as the authors' code has it.

    With u = a / |a|, v = b / |b|, s = exp(log_scale): loss_i = -log(exp(s u_i v_i) / (exp(s u_i v_i) + sum over the
    row's negatives k of exp(s u_i v_k))); the loss is the sum over the valid rows of all ranks by their number.

    Where it differs from the authors: theirs draws the five spots from the whole slide and runs the model on them,
    five more forward passes a step for negatives that are anchors nowhere; here the negatives are rows that the global
    batch holds anyway, a sixth of the cost. So a cluster of which the batch has no spot is represented by another
    (`PairedNegatives.draw`; the more spots of a slide a batch has, the rarer), an embedding is a negative of several
    anchors, and neighbours whose niches share members, which the authors' code may draw, are never negatives.

    Memory: [b, C, D]. Two collectives: a gather, and an all-reduce in backward.

    Args:
        a: [b, D], not normalised, the same shape on every rank.
        b: [b, D], likewise.
        log_scale: scalar, log(1 / temperature).
        pairs: who is contrasted with whom.
        negatives: which columns each row is contrasted with.
        retrieval: is shown every similarity, for diagnostics, which this loss itself does not need.
    """
    with torch.autocast(a.device.type, enabled=False):
        unit = UnitVectors.of(a, b, pairs)
        scale = log_scale.to(unit.a.dtype).exp()
        own = (unit.a * unit.b).sum(1)
        theirs = torch.bmm(unit.all_b[negatives.column], unit.a[:, :, None]).squeeze(2)  # [b, C]
        # -inf after the product, so that an absent one has no gradient.
        logits = torch.cat((scale * own[:, None], (scale * theirs).masked_fill(~negatives.present, -torch.inf)), dim=1)
        losses = logits.logsumexp(1) - logits[:, 0]
        share = torch.where(pairs.valid, losses, 0).sum() / pairs.valid_count
        if retrieval is not None:
            with torch.no_grad():
                for rows in pairs.chunks:
                    retrieval.see(rows, unit.a[rows] @ unit.all_b.T, pairs.masks(rows))
    return unit.contrast(pairs.world.size * share)
