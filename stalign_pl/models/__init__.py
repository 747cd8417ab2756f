"""The model and its parts: plain torch and timm modules, without Lightning."""

from stalign_pl.models.dropout import SpotDropout, draws_from_generator, keyed_dropout
from stalign_pl.models.fingerprint import find_cacheable_streams, fingerprint_encoder, get_encoder_tensors
from stalign_pl.models.frozen import Frozen, find_frozen_prefixes, has_train_mode_batchnorm
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
    "draws_from_generator",
    "find_cacheable_streams",
    "find_frozen_prefixes",
    "fingerprint_encoder",
    "get_encoder_tensors",
    "has_train_mode_batchnorm",
    "keyed_dropout",
]
