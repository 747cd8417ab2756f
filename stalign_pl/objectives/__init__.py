"""The contrastive losses: tensors in, scalars out. They know the process group, no model, no trainer and no config."""

from stalign_pl.objectives.contrastive import Contrast, symmetric_info_nce
from stalign_pl.objectives.gather import World, all_gather
from stalign_pl.objectives.ids import SpotIds
from stalign_pl.objectives.pairs import Pairs
from stalign_pl.objectives.three_level import LossTerms, ThreeLevelLoss

__all__ = [
    "Contrast",
    "LossTerms",
    "Pairs",
    "SpotIds",
    "ThreeLevelLoss",
    "World",
    "all_gather",
    "symmetric_info_nce",
]
