"""The genes that a model reads, as the data hand them to it: names, and the statistics that standardise them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class GenePanel:
    """G genes in the order of a model's expression columns. Two panels are equal when names and statistics are.

    Attributes:
        symbols: G gene symbols, "" where none is known.
        ids: G Ensembl ids without version, "" where none is known.
        mean: float32 [G], of log-normalised expression over training spots of slides that measured the gene.
        sd: float32 [G], likewise, above 0.

    Raises:
        ValueError: columns of different lengths, or an sd that is not above 0.
    """

    symbols: tuple[str, ...]
    ids: tuple[str, ...]
    mean: np.ndarray
    sd: np.ndarray

    def __post_init__(self) -> None:
        lengths = {len(self.symbols), len(self.ids), *self.mean.shape, *self.sd.shape}
        if lengths != {len(self)} or self.mean.ndim != 1 or self.sd.ndim != 1:
            raise ValueError(f"a gene panel's columns have different lengths: {sorted(lengths)}")
        if not (self.sd > 0).all():
            raise ValueError(f"a gene panel's sd is {self.sd.min()}; it must be above 0")

    def __len__(self) -> int:
        return len(self.symbols)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GenePanel) and self.digest() == other.digest()

    def __hash__(self) -> int:
        return hash(self.digest())

    def digest(self) -> str:
        """Hash names and statistics; hex of SHA-256."""
        names = "".join(f"{gene}\t{symbol}\n" for gene, symbol in zip(self.ids, self.symbols, strict=True))
        statistics = np.concatenate([self.mean, self.sd]).astype("<f4")
        return hashlib.sha256(names.encode() + statistics.tobytes()).hexdigest()
