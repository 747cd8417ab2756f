"""Retrieval accuracy of one contrast, gathered while a loss goes through its similarities chunk by chunk."""

from __future__ import annotations

import torch
from torch import Tensor

from stalign_pl.objectives.contrastive import pick_own_similarity
from stalign_pl.objectives.pairs import Masks, Pairs

Shares = dict[str, tuple[Tensor, Tensor]]
"""Name of a figure -> this rank's (numerator, denominator), scalars; the figure is the ratio of their sums."""


class Retrieval:
    """The best rival of every row of a and of every row of b, in its own slide and in the others.

    Rivals are all valid columns but the row's own, masked neighbours included.

    Args:
        pairs: of the batch.
        dtype: of the similarities.
    """

    def __init__(self, pairs: Pairs, dtype: torch.dtype) -> None:
        self.pairs = pairs
        empty = pairs.valid_count.new_full((2, len(pairs.everyone)), -torch.inf, dtype=dtype)
        self._own = empty[0, : len(pairs.valid)].clone()
        self._rows = empty[:, : len(pairs.valid)].clone()  # [own slide, other slides; b]
        self._columns = empty  # [own slide, other slides; N]

    @torch.no_grad()
    def see(self, rows: slice, similarity: Tensor, masks: Masks) -> None:
        """Similarities [c, N] of one chunk of local rows of a with all rows of b; any increasing function of theirs."""
        self._own[rows] = pick_own_similarity(similarity, masks.positive)
        for number, rivals in enumerate((masks.same_slide, masks.other_slide)):
            among = torch.where(rivals, similarity, -torch.inf)
            self._rows[number, rows] = among.amax(1)
            self._columns[number] = torch.maximum(self._columns[number], among.amax(0))

    @torch.no_grad()
    def shares(self, level: str) -> Shares:
        """Top-1 accuracy, mean of both directions; one collective. A tie is a miss: a collapsed model scores 0.

        accuracy_<level>: of the valid rows, how many are nearer to their own partner than to any rival.
        accuracy_in_slide_<level>: among rivals of the row's slide, of the rows that have one: what is left when stain
            and sequencing depth no longer tell the answer.
        accuracy_across_slides_<level>: among rivals of other slides, of the rows that have one.
        """
        local = self.pairs.world.rows(len(self._own))
        best = torch.stack(
            (self._rows, self.pairs.world.max_over_ranks(self._columns)[:, local])
        )  # [direction, whose, b]
        valid = self.pairs.valid.float()
        shares = {f"accuracy_{level}": ((self._own > best.amax(1)).float().mean(0) @ valid, valid.sum())}
        for name, among in (("in_slide", best[:, 0]), ("across_slides", best[:, 1])):
            contested = (among[0] > -torch.inf).float()
            shares[f"accuracy_{name}_{level}"] = ((self._own > among).float().mean(0) @ contested, contested.sum())
        return shares
