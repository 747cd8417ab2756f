"""Keep torch.compile out of functions whose shapes or constants change from batch to batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch

Function = TypeVar("Function", bound=Callable[..., Any])


def run_uncompiled(function: Function) -> Function:
    """Return `function`, called as plain Python in a compiled model too: `torch.compiler.disable`, with its type."""
    return torch.compiler.disable(function)  # pyright: ignore[reportReturnType]  # untyped in torch
