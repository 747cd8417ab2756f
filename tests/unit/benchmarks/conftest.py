"""What the benchmarks' tests share."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from types import ModuleType

import pytest
import torch


@pytest.fixture
def benchmark() -> Iterator[Callable[[str], ModuleType]]:
    """Import a benchmark by room and name, "speed.loader"; the threads that it sets are put back."""
    threads = torch.get_num_threads()
    yield lambda name: importlib.import_module(f"benchmarks.{name}")
    torch.set_num_threads(threads)
