"""What every contrast has in common: unit vectors of both sides, of this rank and of all."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from stalign_pl.distributed import all_gather
from stalign_pl.objectives.pairs import Pairs


@dataclass(frozen=True)
class Contrast:
    """One contrast.

    Attributes:
        loss: scalar, whose mean over ranks is the global loss, and whose gradients' mean over ranks is the gradient of
            the global loss.
        a, b: [b, D], the local embeddings, L2-normalised, detached; zero where not valid.
    """

    loss: Tensor
    a: Tensor
    b: Tensor


@dataclass(frozen=True)
class UnitVectors:
    """L2-normalised embeddings, float32 or float64; zero where not valid.

    Attributes:
        a, b: [b, D], local. all_b: [N, D], of all ranks, with gradient.
    """

    a: Tensor
    b: Tensor
    all_b: Tensor

    @classmethod
    def of(cls, a: Tensor, b: Tensor, pairs: Pairs) -> UnitVectors:
        """Normalise, and gather b: one collective, and one more in backward. a, b: [b, D], the same on every rank."""
        a, b = _unit(a, pairs.valid), _unit(b, pairs.valid)
        return cls(a, b, all_gather(b, pairs.world))

    def contrast(self, loss: Tensor) -> Contrast:
        return Contrast(loss, self.a.detach(), self.b.detach())


def _unit(embedding: Tensor, valid: Tensor) -> Tensor:
    """L2-normalised rows in float32 or float64; rows not valid are 0, so that even a NaN there reaches nobody."""
    embedding = embedding.to(torch.promote_types(embedding.dtype, torch.float32))
    return F.normalize(torch.where(valid[:, None], embedding, 0), dim=1)


def own_similarity(similarity: Tensor, positive: Tensor) -> Tensor:
    """[c]: each row's value [c, N] at its own column [c]."""
    return similarity.gather(1, positive[:, None]).squeeze(1)
