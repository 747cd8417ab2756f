"""How the same pairs are usually loaded: a file a sample behind a DataLoader, and webdataset's pipeline."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from stalign_pl.batch.spot_batch import CountPairs, SpotBatch

PANEL = 4384
"""Genes of a dense expression vector, as in the authors' code."""

MODALITIES = ("spot", "niche", "spot_genes", "niche_genes")


def dense(pairs: CountPairs, rows: int) -> np.ndarray:
    """float32 [rows, PANEL]: the counts of the first PANEL genes."""
    counts = np.zeros((rows, PANEL), np.float32)
    gene = pairs.gene.numpy()
    kept = gene < PANEL
    np.add.at(counts, (pairs.row.numpy()[kept], gene[kept]), pairs.count.numpy()[kept])
    return counts


def columns_of(batch: SpotBatch) -> tuple[np.ndarray, ...]:
    """A batch by modality."""
    counts = (dense(pairs, len(batch)) for pairs in (batch.spot_counts, batch.niche_counts))
    return batch.spot_image.numpy(), batch.niche_image.numpy(), *counts


def write_files(folder: Path, columns: tuple[np.ndarray, ...], first: int, compressed: bool = False) -> None:
    """Write rows as the authors' scheme has them: one .npz a sample and modality.

    Args:
        columns: by modality, [B, ...].
        first: number of the first row.
    """
    save = np.savez_compressed if compressed else np.savez
    for name, column in zip(MODALITIES, columns, strict=True):
        for row, value in enumerate(column):
            save(folder / f"{first + row:06d}_{name}.npz", x=value)


class FilesOfPairs(Dataset):
    """Sample i, by modality: pixels uint8 [side, side, 3], counts float32 [PANEL].

    Args:
        negatives: of every anchor, drawn at random, follow it: [1 + negatives, ...].
    """

    def __init__(self, folder: Path, samples: int, negatives: int = 0) -> None:
        self.folder, self.samples, self.negatives = folder, samples, negatives

    def __len__(self) -> int:
        return self.samples

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        if not self.negatives:
            return self._sample(number)
        others = torch.randint(self.samples, (self.negatives,)).tolist()
        taken = [self._sample(one) for one in (number, *others)]
        return {name: torch.stack([sample[name] for sample in taken]) for name in MODALITIES}

    def _sample(self, number: int) -> dict[str, Tensor]:
        return {name: torch.from_numpy(self._load(number, name)) for name in MODALITIES}

    def _load(self, number: int, name: str) -> np.ndarray:
        with np.load(self.folder / f"{number:06d}_{name}.npz") as file:
            return file["x"]


def files_loader(folder: Path, samples: int, batch: int, workers: int, negatives: int = 0) -> DataLoader:
    """The stock DataLoader over `FilesOfPairs`."""
    return DataLoader(FilesOfPairs(folder, samples, negatives), batch, shuffle=True, num_workers=workers)


def _tensors(sample: tuple) -> tuple[Tensor, Tensor, Tensor]:
    spot, niche, pairs = sample
    genes = torch.zeros(PANEL)
    gene, count = pairs[:, pairs[0] < PANEL].astype(np.int64)
    genes[torch.from_numpy(gene)] = torch.from_numpy(count).float()
    return spot, niche, genes


def webdataset_loader(tars: list[str], batch: int, workers: int) -> Iterable[Sequence[Tensor]]:
    """webdataset's stock pipeline: shuffle, decode by Pillow to uint8 tensors, batch in the workers.

    It knows no neighbours: the niche's genes, a sum over other samples, are left out, in its favour.
    """
    import webdataset as wds

    data = (
        wds.WebDataset(tars, shardshuffle=len(tars))
        .shuffle(1000)
        .decode("torchrgb8")
        .to_tuple("spot.jpg", "niche.jpg", "genes.npy")
        .map(_tensors)
        .batched(batch)
    )
    return wds.WebLoader(data, batch_size=None, num_workers=workers)
