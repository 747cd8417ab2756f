"""What Lightning's trainer holds of ours, with our types, which it does not declare."""

from __future__ import annotations

from lightning import Trainer

from stalign_pl.data.datamodule import STAlignData
from stalign_pl.data.reading.loader import BatchLoader


def get_data(trainer: Trainer) -> STAlignData:
    """The data of a run.

    Raises:
        TypeError: the trainer has no datamodule yet, or another.
    """
    data = getattr(trainer, "datamodule", None)
    if not isinstance(data, STAlignData):
        raise TypeError(f"trainer.datamodule is {type(data).__name__}; STAlignData is wanted")
    return data


def get_loader(loader: object) -> BatchLoader:
    """The loader that a pass reads.

    Args:
        loader: `trainer.train_dataloader`, `.val_dataloaders`, `.test_dataloaders` or `.predict_dataloaders`.

    Raises:
        TypeError: the pass has not begun, or reads another loader than `STAlignData` makes.
    """
    if not isinstance(loader, BatchLoader):
        raise TypeError(f"the trainer's loader is {type(loader).__name__}; BatchLoader is wanted")
    return loader
