"""Times of training steps: by the clock, and of the CPU."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

WARM_UP = 2
"""Steps that are not counted."""


@dataclass(frozen=True)
class Times:
    """Seconds: by the clock, and of CPU time of this process with all its threads."""

    wall: float
    cpu: float

    def since(self, started: Times, steps: int) -> Times:
        """Mean of so many steps."""
        return Times((self.wall - started.wall) / steps, (self.cpu - started.cpu) / steps)


def clock(device: torch.device) -> float:
    """Seconds, when all that was asked of the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def now(device: torch.device) -> Times:
    return Times(clock(device), time.process_time())
