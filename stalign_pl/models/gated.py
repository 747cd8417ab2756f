"""Fusion by gates: how much of each modality, dimension by dimension, with one of them missing or not."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stalign_pl.errors import ConfigError
from stalign_pl.models.dropout import SpotDropout
from stalign_pl.models.fusion import Fusion


class Gated(Fusion):
    """A gate a modality and dimension, read off both summaries, weighs what goes into the sum.

    With s_m = LayerNorm(mean token of m), v_m = V_m s_m and g = sigmoid(G [v_image, v_gene] + c) in two halves:
    LayerNorm(g_image v_image + g_gene v_gene), then one linear map (gated multimodal unit, Arevalo et al. 2017, arXiv
    1702.01992, with a gate each instead of one and its complement). A modality that is not there is 0 in both places.

    Args:
        tokens: T, not used by a mean; taken so that every fusion is made alike.
        width: W, width of a token.
        out: width of the result.
        drop_modality: in training, chance that a row does without one of its modalities, either alike: so that one
            alone can be embedded. In [0, 1).

    Raises:
        ConfigError: a chance out of range.
    """

    alone = True

    def __init__(self, tokens: int, width: int, out: int = 1024, drop_modality: float = 0.0) -> None:
        super().__init__(out)
        if not 0 <= drop_modality < 1:
            raise ConfigError(f"Gated: drop_modality is {drop_modality}; a chance in [0, 1) is wanted")
        self.drop = ModalityDropout(drop_modality)
        self.image = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width))
        self.gene = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width))
        self.gate = nn.Linear(2 * width, 2 * width)
        self.project = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, out))

    def forward(self, image_tokens: Tensor | None, gene_tokens: Tensor | None) -> Tensor:
        """[B, T, W] each, None for a modality that is not there -> [B, out].

        Raises:
            ConfigError: both None.
        """
        if image_tokens is None and gene_tokens is None:
            raise ConfigError("Gated: neither image nor genes were given; at least one is wanted")
        if image_tokens is None:
            gene = self.gene(gene_tokens.mean(1))
            image = torch.zeros_like(gene)
        elif gene_tokens is None:
            image = self.image(image_tokens.mean(1))
            gene = torch.zeros_like(image)
        else:
            image, gene = self.drop(self.image(image_tokens.mean(1)), self.gene(gene_tokens.mean(1)))
        image_gate, gene_gate = self.gate(torch.cat((image, gene), dim=1)).sigmoid().chunk(2, dim=1)
        return self.project(image_gate * image + gene_gate * gene)


class ModalityDropout(SpotDropout):
    """Rows lose the first of two summaries with chance p / 2, else the second with p / 2; what stays is not scaled."""

    def forward(self, image: Tensor, gene: Tensor) -> tuple[Tensor, Tensor]:
        """[B, W] each -> the same, lost rows 0; keyed, row i is row i of the keys."""
        if not self.training or not self.p:
            return image, gene
        if self.keys is None:
            drawn = torch.rand(len(image), 1, device=image.device)
            no_image, either = drawn < self.p / 2, drawn < self.p
        else:  # the same draw twice
            no_image, either = (self.keys.happens(chance, self.stream, 1) for chance in (self.p / 2, self.p))
        return image.masked_fill(no_image, 0), gene.masked_fill(either & ~no_image, 0)
