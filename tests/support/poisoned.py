"""`fit` with a loss that is not a number on one rank at some steps; each rank's weights in its own file.

As a program: `python -m tests.support.poisoned FOLDER fit ...`.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import torch

from stalign_pl.batch.embeddings import Embeddings
from stalign_pl.batch.spot_ids import SpotIds
from stalign_pl.distributed import World
from stalign_pl.objectives import LossTerms, ThreeLevelLoss


class PoisonedLoss(ThreeLevelLoss):
    """Args:
    steps: calls, counted from 0, whose total is NaN.
    rank: where.
    """

    def __init__(self, steps: list[int], rank: int = 0, temperature: float = 0.2) -> None:
        super().__init__(temperature=temperature)
        self.steps, self.rank, self.call = steps, rank, -1

    def forward(self, embeddings: Embeddings, ids: SpotIds) -> LossTerms:
        terms = super().forward(embeddings, ids)
        self.call += 1
        if self.call in self.steps and World.current().rank == self.rank:
            return replace(terms, total=terms.total + float("nan"))  # the gradient stays finite: no other rank sees it
        return terms


if __name__ == "__main__":
    from stalign_pl.cli.lightning import STAlignCLI

    folder = Path(sys.argv[1])
    cli = STAlignCLI(sys.argv[2:])
    torch.save(cli.model.state_dict(), folder / f"rank{cli.trainer.global_rank}.pt")
