"""STAlign: four streams, two fusions, six embeddings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stalign_pl.gene_panel import GenePanel
from stalign_pl.models.dropout import number_dropouts
from stalign_pl.models.frozen import frozen_prefixes
from stalign_pl.models.image import TimmStream


@dataclass(frozen=True)
class Embeddings:
    """What the model says of a batch of spots, not normalised: unimodal [B, dim], fused [B, out of the fusion]."""

    spot_image: Tensor
    spot_gene: Tensor
    niche_image: Tensor
    niche_gene: Tensor
    spot: Tensor
    niche: Tensor


class STAlign(nn.Module):
    """The multi-scale image-gene model.

    The parts are given as factories, so that a configuration names a class and its own options, and what follows from
    the model or the data (tokens, width, genes) is filled in here.

    Args:
        genes: the panel, G genes; comes from the data.
        spot_image, niche_image: (tokens, width) -> image stream.
        spot_gene, niche_gene: (genes, tokens, width) -> module of (expression [B, G], measured [B, G]) to
            [B, tokens, width].
        fusion: (tokens, width) -> module of (image tokens, gene tokens) to one vector of width `out`; called twice,
            spot and niche share no weights.
        tokens: tokens a stream.
        width: width of a token.
        dim: width of the unimodal embeddings.
    """

    def __init__(
        self,
        genes: GenePanel,
        spot_image: Callable[[int, int], TimmStream],
        niche_image: Callable[[int, int], TimmStream],
        spot_gene: Callable[[GenePanel, int, int], nn.Module],
        niche_gene: Callable[[GenePanel, int, int], nn.Module],
        fusion: Callable[[int, int], nn.Module],
        tokens: int = 8,
        width: int = 512,
        dim: int = 512,
    ) -> None:
        super().__init__()
        self.genes = genes
        self.dim = dim
        self.spot_image = spot_image(tokens, width)
        self.niche_image = niche_image(tokens, width)
        self.spot_gene = spot_gene(genes, tokens, width)
        self.niche_gene = niche_gene(genes, tokens, width)
        self.fuse_spot = fusion(tokens, width)
        self.fuse_niche = fusion(tokens, width)
        self.pool_spot_image = MeanToken(width, dim)
        self.pool_niche_image = MeanToken(width, dim)
        self.pool_spot_gene = MeanToken(width, dim)
        self.pool_niche_gene = MeanToken(width, dim)
        number_dropouts(self)

    @property
    def widths(self) -> dict[str, int]:
        """Field of `Embeddings` -> its width."""
        unimodal = dict.fromkeys(("spot_image", "spot_gene", "niche_image", "niche_gene"), self.dim)
        return {**unimodal, "spot": self.fuse_spot.out, "niche": self.fuse_niche.out}

    @property
    def frozen_prefixes(self) -> tuple[str, ...]:
        """Prefixes of the state-dict keys that a checkpoint may leave out: frozen weights that have a source."""
        return frozen_prefixes(self)

    def forward(
        self, spot_image: Tensor, spot_genes: Tensor, niche_image: Tensor, niche_genes: Tensor, measured: Tensor
    ) -> Embeddings:
        """Embed a batch.

        Args:
            spot_image, niche_image: [B, 3, size, size] float in [0, 1], `size` that of the stream.
            spot_genes, niche_genes: [B, G] float, log-normalised expression, not standardised.
            measured: [B, G] bool, genes that the spot's slide measured.
        """
        spot_image_tokens, spot_gene_tokens = self.spot_image(spot_image), self.spot_gene(spot_genes, measured)
        niche_image_tokens, niche_gene_tokens = self.niche_image(niche_image), self.niche_gene(niche_genes, measured)
        return Embeddings(
            spot_image=self.pool_spot_image(spot_image_tokens),
            spot_gene=self.pool_spot_gene(spot_gene_tokens),
            niche_image=self.pool_niche_image(niche_image_tokens),
            niche_gene=self.pool_niche_gene(niche_gene_tokens),
            spot=self.fuse_spot(spot_image_tokens, spot_gene_tokens),
            niche=self.fuse_niche(niche_image_tokens, niche_gene_tokens),
        )

    def image_embeddings(self, spot_image: Tensor, niche_image: Tensor) -> Tensor:
        """[B, 2 * dim]: spot and niche image embeddings side by side; needs no genes."""
        return torch.cat((self.encode_spot_image(spot_image), self.encode_niche_image(niche_image)), dim=-1)

    def encode_spot_image(self, image: Tensor) -> Tensor:
        """[B, 3, size, size] -> [B, dim], as `Embeddings.spot_image`."""
        return self.pool_spot_image(self.spot_image(image))

    def encode_niche_image(self, image: Tensor) -> Tensor:
        """[B, 3, size, size] -> [B, dim], as `Embeddings.niche_image`."""
        return self.pool_niche_image(self.niche_image(image))


class MeanToken(nn.Sequential):
    """A stream's one vector: the mean over its tokens, LayerNorm, linear width -> dim."""

    def __init__(self, width: int, dim: int) -> None:
        super().__init__(nn.LayerNorm(width), nn.Linear(width, dim))

    def forward(self, tokens: Tensor) -> Tensor:
        """[B, T, W] -> [B, dim]."""
        return super().forward(tokens.mean(1))
