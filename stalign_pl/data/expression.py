"""Raw counts over a model's genes -> log-normalised expression. Pure functions."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

TARGET_SUM = 1e4


def target_sum(share: np.ndarray, measured: np.ndarray) -> float:
    """What a spot's counts over the measured genes are scaled to.

    10,000 for a slide that measured all of them; for a smaller panel the part of 10,000 that its genes make up in
    the training slides. CP10K on 100 genes is not CP10K on 36,000: this keeps one gene on one scale.

    Args:
        share: float64 [G], a gene's mean share of the counts in the training slides.
        measured: bool [G].
    """
    return TARGET_SUM * float(share[measured].sum() / share.sum())


def log_normalised(counts: Tensor, target: Tensor, measured: Tensor) -> Tensor:
    """Scale each row to its target sum, log1p; unmeasured genes are 0.

    Args:
        counts: float32 [B, G], raw; 0 where not measured.
        target: float32 [B], see `target_sum`.
        measured: bool [B, G].

    Returns:
        float32 [B, G].
    """
    library = counts.sum(dim=1, keepdim=True).clamp(min=1)
    return torch.log1p(counts * (target[:, None] / library)).where(measured, 0)
