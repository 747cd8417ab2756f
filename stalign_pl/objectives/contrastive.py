"""What every contrast has in common: unit vectors of both sides, of this rank and of all."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stalign_pl.distributed import all_gather
from stalign_pl.objectives.pairs import Pairs


@dataclass(frozen=True)
class Contrast:
    """One contrast.

    Attributes:
        loss: scalar, whose mean over ranks is the global loss, and whose gradients' mean over ranks is the gradient of
            the global loss.
        a: [b, D], the local embeddings of one side, L2-normalised, detached; zero where not valid.
        b: [b, D], those of the other side.
    """

    loss: Tensor
    a: Tensor
    b: Tensor


@dataclass(frozen=True)
class UnitVectors:
    """L2-normalised embeddings, float32 or float64; zero where not valid.

    Attributes:
        a: [b, D], local, of one side.
        b: [b, D], local, of the other side.
        all_b: [N, D], b of all ranks, with gradient.
    """

    a: Tensor
    b: Tensor
    all_b: Tensor

    @classmethod
    def of(cls, a: Tensor, b: Tensor, pairs: Pairs) -> UnitVectors:
        """Normalise, and gather b: one collective, and one more in backward.

        Args:
            a: [b, D], the same shape on every rank.
            b: [b, D].
            pairs: which rows are valid.
        """
        a, b = _normalise(a, pairs.valid), _normalise(b, pairs.valid)
        return cls(a, b, all_gather(b, pairs.world))

    def contrast(self, loss: Tensor) -> Contrast:
        """The contrast of these vectors, whose loss is given."""
        return Contrast(loss, self.a.detach(), self.b.detach())


def _normalise(embedding: Tensor, valid: Tensor) -> Tensor:
    """L2-normalised rows in float32 or float64; rows not valid are 0, so that even a NaN there reaches nobody."""
    embedding = embedding.to(torch.promote_types(embedding.dtype, torch.float32))
    return nn.functional.normalize(torch.where(valid[:, None], embedding, 0), dim=1)


def pick_own_similarity(similarity: Tensor, positive: Tensor) -> Tensor:
    """[c]: each row's value [c, N] at its own column [c]."""
    return similarity.gather(1, positive[:, None]).squeeze(1)
