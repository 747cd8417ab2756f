"""Raw counts over a model's genes -> log-normalised expression, as tensors. Pure functions.

The same numbers of sparse matrices on the host: `stalign_pl.batch.expression`.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def compute_measured_share(share: np.ndarray, measured: np.ndarray) -> float:
    """The part of a spot's counts that the measured genes make up, 0 to 1.

    Counts of a slide with a smaller panel are scaled to this part of the whole panel's target sum, so that a gene has
    one scale on all slides: CP10K on 100 genes is not CP10K on 36,000.

    Args:
        share: float64 [G], a gene's mean share of the counts in the training slides.
        measured: bool [G].
    """
    return float(share[measured].sum() / share.sum())


def log_normalise_rows(counts: Tensor, target: Tensor, measured: Tensor) -> Tensor:
    """Scale each row's counts to its target, then log1p; unmeasured genes are 0.

    Args:
        counts: float32 [B, G], raw; 0 where not measured.
        target: float32 [B], what the row's counts are scaled to.
        measured: bool [B, G].

    Returns:
        float32 [B, G].

    On arrays, for baselines and read-outs: `stalign_pl.evaluation.normalise`, which a test holds to the same numbers.
    """
    library = counts.sum(dim=1, keepdim=True).clamp(min=1)
    return torch.log1p(counts * (target[:, None] / library)).where(measured, 0)
