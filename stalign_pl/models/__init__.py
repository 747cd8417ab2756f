"""The model and its parts: plain torch modules over torch and timm, which know no Lightning."""

from stalign_pl.models.dropout import SpotDropout, draws_from_generator, keyed_dropout
from stalign_pl.models.frozen import Frozen, frozen_prefixes, has_train_mode_batchnorm
from stalign_pl.models.fusion import ABFN, Concat, Fusion, GeneOnly, ImageOnly
from stalign_pl.models.gated import Gated
from stalign_pl.models.genes import GeneMLP, MissingGenes, NicheGeneTransformer
from stalign_pl.models.image import TimmStream
from stalign_pl.models.low_rank import LowRankLinear
from stalign_pl.models.scgpt import ScGPT
from stalign_pl.models.stalign import Embeddings, STAlign
from stalign_pl.models.trained_part import LastBlocks, LowRank

__all__ = [
    "ABFN",
    "Concat",
    "Embeddings",
    "Frozen",
    "Fusion",
    "Gated",
    "GeneMLP",
    "GeneOnly",
    "ImageOnly",
    "LastBlocks",
    "LowRank",
    "LowRankLinear",
    "MissingGenes",
    "NicheGeneTransformer",
    "STAlign",
    "ScGPT",
    "SpotDropout",
    "TimmStream",
    "draws_from_generator",
    "frozen_prefixes",
    "has_train_mode_batchnorm",
    "keyed_dropout",
]
