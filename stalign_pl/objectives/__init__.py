"""The contrastive losses and gene regression: tensors in, scalars out. They know the process group, no model."""

from stalign_pl.objectives.contrastive import Contrast
from stalign_pl.objectives.info_nce import symmetric_info_nce
from stalign_pl.objectives.losses import ThreeLevelLoss, ThreeLevelPairedLoss, ThreeLevelSigmoidLoss
from stalign_pl.objectives.paired import PairedNegatives, paired_info_nce
from stalign_pl.objectives.pairs import Pairs
from stalign_pl.objectives.regression import GeneRegression, RegressionConfig
from stalign_pl.objectives.retrieval import Retrieval
from stalign_pl.objectives.sigmoid import pairwise_sigmoid
from stalign_pl.objectives.three_level import LossTerms, ThreeLevelObjective

__all__ = [
    "Contrast",
    "GeneRegression",
    "LossTerms",
    "PairedNegatives",
    "Pairs",
    "RegressionConfig",
    "Retrieval",
    "ThreeLevelLoss",
    "ThreeLevelObjective",
    "ThreeLevelPairedLoss",
    "ThreeLevelSigmoidLoss",
    "paired_info_nce",
    "pairwise_sigmoid",
    "symmetric_info_nce",
]
