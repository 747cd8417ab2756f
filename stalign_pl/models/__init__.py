"""The model and its parts: plain torch and timm modules, without Lightning."""

from stalign_pl.models.dropout import SpotDropout, draws_from_generator, keyed_dropout
from stalign_pl.models.fingerprint import cacheable_streams, encoder_tensors, fingerprint
from stalign_pl.models.frozen import Frozen, frozen_prefixes, has_train_mode_batchnorm
from stalign_pl.models.fusion import ABFN, Concat, Fusion, Gated, GeneOnly, ImageOnly
from stalign_pl.models.genes import GeneMLP, MissingGenes, NicheGeneTransformer
from stalign_pl.models.image.low_rank import LowRankLinear
from stalign_pl.models.image.stream import TimmStream
from stalign_pl.models.image.trained_part import LastBlocks, LowRank
from stalign_pl.models.scgpt.stream import ScGPT
from stalign_pl.models.stalign import STAlign

__all__ = [
    "ABFN",
    "Concat",
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
    "cacheable_streams",
    "draws_from_generator",
    "encoder_tensors",
    "fingerprint",
    "frozen_prefixes",
    "has_train_mode_batchnorm",
    "keyed_dropout",
]
