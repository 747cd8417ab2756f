"""What a simulated cohort knows of its own slides: written beside them by `python -m data_prep simulate`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stalign_pl.errors import ConfigError
from stalign_pl.shard_format import GeneTable


@dataclass(frozen=True)
class Oracle:
    """Attributes:
    noise_free: float32 [N, G'], features that hold each spot's domain and nothing random.
    expected: float32 [N, T], E[log1p(CP10K)] of the asked genes, given what the image was drawn from.
    """

    noise_free: np.ndarray
    expected: np.ndarray


def read_oracle(folder: str, slide: str, barcodes: np.ndarray, genes: np.ndarray, table: GeneTable) -> Oracle:
    """Read `<folder>/<slide>/oracle.npz`, spots in the order of `barcodes`, genes by index of the set's table.

    Raises:
        ConfigError: no such file, or a spot or gene that it does not hold.
    """
    path = Path(folder) / slide / "oracle.npz"
    if not path.is_file():
        raise ConfigError(f"oracle: {path} does not exist; name the folder that `data_prep simulate` wrote, or null")
    with np.load(path, allow_pickle=False) as file:
        row = {barcode: number for number, barcode in enumerate(np.char.decode(file["barcodes"]))}
        column = {table.lookup(name): number for number, name in enumerate(np.char.decode(file["genes"]))}
        try:
            rows = [row[barcode] for barcode in barcodes]
            columns = [column[int(gene)] for gene in genes]
        except KeyError as error:
            raise ConfigError(f"oracle: {path} has no spot or gene {error}; it is of another cohort") from error
        return Oracle(
            file["noise_free"][rows].astype(np.float32), file["expected"][rows][:, columns].astype(np.float32)
        )
