"""What a check finds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: in which file, with which spot (None: the file as a whole), and what."""

    file: str
    what: str
    spot: int | None = None

    def __str__(self) -> str:
        return f"{self.file}: {'' if self.spot is None else f'spot {self.spot}: '}{self.what}"


def load_array(path: Path) -> np.ndarray | Problem:
    """A .npy file, memory-mapped, or what is wrong with it."""
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        return Problem(path.name, f"cannot be read as an array: {error}")
