"""A problem that a check finds, and arrays read or reported as one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        file: name of the file.
        what: what is wrong with it.
        spot: the spot that it concerns; None: the file as a whole.
    """

    file: str
    what: str
    spot: int | None = None

    def __str__(self) -> str:
        return f"{self.file}: {'' if self.spot is None else f'spot {self.spot}: '}{self.what}"


def load_array(path: Path) -> np.ndarray | Problem:
    """Load a .npy file, memory-mapped; returns what is wrong with one that cannot be loaded."""
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        return Problem(path.name, f"cannot be read as an array: {error}")
