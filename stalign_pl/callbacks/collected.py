"""Rows of an evaluation pass, collected over batches and ranks, looked up by slide."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from stalign_pl.distributed import World, gather_parts
from stalign_pl.training.evaluation_step import EvaluatedBatch


class Collected(Metric):
    """Chosen fields of `EvaluatedBatch` batches: a torchmetrics state each, on the host, joined over ranks at the end.

    On its module's device (`.to(device)`), over which ranks exchange rows. One instance a pass.

    Args:
        names: fields of Evaluated to keep, those that are not None.
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__(compute_on_cpu=True, compute_with_cache=False, dist_sync_fn=self._gather_over_ranks)
        self.names = ("slide", "spot", "valid", *names)
        for name in self.names:
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(self, output: EvaluatedBatch) -> None:
        """Keep a batch's rows."""
        for name in self.names:
            tensor = getattr(output, name)
            if tensor is not None:
                getattr(self, name).append(tensor.detach())

    def compute(self) -> dict[str, np.ndarray]:
        """Return all rows that are kept, by field; padding too."""
        states = {name: getattr(self, name) for name in self.names}
        return {name: dim_zero_cat(state).numpy() for name, state in states.items() if len(state)}

    def gather(self) -> Table | None:
        """All ranks' valid rows, which are then forgotten; a collective, called by every rank.

        None where the pass had nothing of this kind, on every rank alike.
        """
        if not self.update_called:
            return None
        columns = self.compute()
        self.reset()
        keep = columns.pop("valid")
        columns = {name: column[keep] for name, column in columns.items()}
        order = np.lexsort((columns["spot"], columns["slide"]))
        return Table({name: column[order] for name, column in columns.items()})

    def _gather_over_ranks(self, tensor: Tensor, group: object = None) -> list[Tensor]:
        """Each rank's rows. Batches have one shape, so nothing is padded, and no rank asks another for its sizes."""
        if not len(tensor):  # a field that the model has not
            return [tensor]
        return [part.cpu() for part in gather_parts(tensor.to(self.device), World.current())]


@dataclass(frozen=True)
class Table:
    """Rows of all spots of a pass, sorted by slide and spot.

    Attributes:
        columns: field of `EvaluatedBatch` -> [N, ...], `slide` and `spot` among them.
    """

    columns: dict[str, np.ndarray]

    def spots(self, slide: int) -> np.ndarray:
        """int64 [n], ascending: the spots of a slide."""
        return self.columns["spot"][self.columns["slide"] == slide]

    def has(self, name: str) -> bool:
        """Whether the model has an embedding of that name."""
        return name in self.columns

    def of(self, slide: int, name: str) -> np.ndarray:
        """[n, D]: the embedding of that name of a slide's spots, in spot order."""
        return self.columns[name][self.columns["slide"] == slide]
