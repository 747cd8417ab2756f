"""Rows of an evaluation pass, collected over batches and ranks, looked up by slide."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from lightning import LightningModule
from torch import Tensor

from stalign_pl.training.evaluation_step import Evaluated


@dataclass
class Collected:
    """Gathers chosen fields of `Evaluated` batches. One instance a pass.

    Attributes:
        names: fields of Evaluated to keep, those that are not None.
    """

    names: tuple[str, ...]
    _parts: list[dict[str, Tensor]] = field(default_factory=list)

    def add(self, output: Evaluated) -> None:
        kept = {name: getattr(output, name) for name in ("slide", "spot", "valid", *self.names)}
        self._parts.append({name: tensor.detach().cpu() for name, tensor in kept.items() if tensor is not None})

    def gather(self, module: LightningModule) -> Table | None:
        """All ranks' valid rows; a collective, called by every rank. Batches have one shape, so nothing is padded.

        None where the pass had nothing of this kind, on every rank alike.
        """
        if not self._parts:
            return None
        columns = {}
        for name in self._parts[0]:
            tensor = torch.cat([part[name] for part in self._parts])
            gathered = module.all_gather(tensor.to(module.device)).cpu()
            columns[name] = gathered.reshape(-1, *tensor.shape[1:]).numpy()
        self._parts.clear()
        keep = columns.pop("valid")
        columns = {name: column[keep] for name, column in columns.items()}
        order = np.lexsort((columns["spot"], columns["slide"]))
        return Table({name: column[order] for name, column in columns.items()})


@dataclass(frozen=True)
class Table:
    """Rows of all spots of a pass, sorted by slide and spot."""

    columns: dict[str, np.ndarray]

    def spots(self, slide: int) -> np.ndarray:
        return self.columns["spot"][self.columns["slide"] == slide]

    def has(self, name: str) -> bool:
        """Whether the model has an embedding of that name."""
        return name in self.columns

    def of(self, slide: int, name: str) -> np.ndarray:
        """[N, D] in spot order."""
        return self.columns[name][self.columns["slide"] == slide]
