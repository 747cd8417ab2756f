"""Fuse a scale's image and gene tokens into one vector."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stalign_pl.batch.row_keys import RowKeys
from stalign_pl.errors import ConfigError, check_sizes
from stalign_pl.models.attention import Attention
from stalign_pl.models.compilation import run_uncompiled
from stalign_pl.models.dropout import KeyedDropout


class Fusion(nn.Module):
    """Base of the fusions of a scale's tokens.

    Attributes:
        reads: modalities whose tokens the result depends on; a scale must have their streams.
        alone: whether the tokens of one of them may be None, in any call.
        out: width of the result.
    """

    reads: tuple[str, ...] = ("image", "gene")
    alone = False

    def __init__(self, out: int) -> None:
        super().__init__()
        check_sizes(type(self).__name__, out=out)
        self.out = out


class ABFN(Fusion):
    """The attention-based fusion network of the paper.

    Image tokens attend to gene tokens and gene tokens to image tokens, after LayerNorm and without residual; each
    result goes through its own bottleneck (width -> bottleneck -> GELU -> width / 2); the two halves, side by side, are
    normalised, flattened and read by an MLP (tokens * width -> hidden -> out). One LayerNorm a modality serves both
    attentions: a second one's gain and shift would be absorbed by the linear map behind it.

    Args:
        tokens: T, tokens of each modality.
        width: W, width of a token; even.
        heads: of both attentions.
        head_dim: width of a head.
        bottleneck: width of each modality's bottleneck.
        hidden: width inside the MLP.
        out: width of the result.

    Raises:
        ConfigError: an odd width.
    """

    def __init__(
        self,
        tokens: int,
        width: int,
        heads: int = 8,
        head_dim: int = 64,
        bottleneck: int = 64,
        hidden: int = 2048,
        out: int = 1024,
    ) -> None:
        super().__init__(out)
        check_sizes("ABFN", heads=heads, head_dim=head_dim, bottleneck=bottleneck, hidden=hidden)
        if width % 2:
            raise ConfigError(
                f"ABFN: width {width} is odd; the two modalities take half each: {width - 1} or {width + 1}"
            )
        self.norm_image = nn.LayerNorm(width)
        self.norm_gene = nn.LayerNorm(width)
        self.image_to_gene = Attention(width, heads, head_dim)
        self.gene_to_image = Attention(width, heads, head_dim)
        self.narrow_image = _bottleneck(width, bottleneck)
        self.narrow_gene = _bottleneck(width, bottleneck)
        self.norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Flatten(), nn.Linear(tokens * width, hidden), nn.GELU(), nn.Linear(hidden, out))

    def forward(self, image_tokens: Tensor, gene_tokens: Tensor) -> Tensor:
        """Return the fused vector [B, out] of image and gene tokens, [B, T, W] each."""
        image, gene = self.norm_image(image_tokens), self.norm_gene(gene_tokens)
        halves = (
            self.narrow_image(self.image_to_gene(image, gene)),
            self.narrow_gene(self.gene_to_image(gene, image)),
        )
        return self.mlp(self.norm(torch.cat(halves, dim=-1)))


def _bottleneck(width: int, bottleneck: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, bottleneck), nn.GELU(), nn.Linear(bottleneck, width // 2))


class Concat(Fusion):
    """The simple control: the two modalities' mean tokens side by side, LayerNorm, one linear map.

    Args:
        tokens: T, unused; here so that all fusions have the same signature.
        width: W, width of a token.
        out: width of the result.
    """

    def __init__(self, tokens: int, width: int, out: int = 1024) -> None:
        super().__init__(out)
        self.project = nn.Sequential(nn.LayerNorm(2 * width), nn.Linear(2 * width, out))

    def forward(self, image_tokens: Tensor, gene_tokens: Tensor) -> Tensor:
        """Return the fused vector [B, out] of image and gene tokens, [B, T, W] each."""
        return self.project(torch.cat((image_tokens.mean(1), gene_tokens.mean(1)), dim=-1))


class OneModality(Fusion):
    """The control that fuses nothing: the mean token of the one modality in `reads`, LayerNorm, one linear map.

    Args:
        tokens: T, unused; here so that all fusions have the same signature.
        width: W, width of a token.
        out: width of the result.
    """

    def __init__(self, tokens: int, width: int, out: int = 1024) -> None:
        super().__init__(out)
        self.project = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, out))

    def forward(self, image_tokens: Tensor | None, gene_tokens: Tensor | None) -> Tensor:
        """Return the fused vector [B, out].

        Args:
            image_tokens: [B, T, W]; without effect, so possibly None, where the genes are read.
            gene_tokens: [B, T, W]; without effect, so possibly None, where the image is read.

        Raises:
            ConfigError: None for the modality that is read.
        """
        tokens = {"image": image_tokens, "gene": gene_tokens}[self.reads[0]]
        if tokens is None:
            raise ConfigError(
                f"{type(self).__name__}: no {self.reads[0]} tokens were given, the only ones that it reads"
            )
        return self.project(tokens.mean(1))


class ImageOnly(OneModality):
    """`OneModality` of the image; only the spot and niche losses train the gene stream."""

    reads = ("image",)


class GeneOnly(OneModality):
    """`OneModality` of the genes; only the spot and niche losses train the image stream."""

    reads = ("gene",)


class Gated(Fusion):
    """A sum weighted by a gate for each modality and dimension, computed from both summaries.

    With s_m = LayerNorm(mean token of m), v_m = V_m s_m and g = sigmoid(G [v_image, v_gene] + c) in two halves:
    LayerNorm(g_image v_image + g_gene v_gene), then one linear map (gated multimodal unit, Arevalo et al. 2017, arXiv
    1702.01992, with a gate each instead of one and its complement). v_m of an absent modality is 0 in both places.

    Args:
        tokens: T, unused; here so that all fusions have the same signature.
        width: W, width of a token.
        out: width of the result.
        drop_modality: in training, probability that a row loses one of its modalities, both equally likely, so that
            one alone can be embedded. In [0, 1).

    Raises:
        ConfigError: a probability out of range.
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
        """Return the fused vector [B, out].

        Args:
            image_tokens: [B, T, W], None where there is no image.
            gene_tokens: [B, T, W], None where there are no genes.

        Raises:
            ConfigError: both None.
        """
        if image_tokens is None:
            if gene_tokens is None:
                raise ConfigError("Gated: neither image nor genes were given; at least one is wanted")
            gene = self.gene(gene_tokens.mean(1))
            image = torch.zeros_like(gene)
        elif gene_tokens is None:
            image = self.image(image_tokens.mean(1))
            gene = torch.zeros_like(image)
        else:
            image, gene = self.drop(self.image(image_tokens.mean(1)), self.gene(gene_tokens.mean(1)))
        image_gate, gene_gate = self.gate(torch.cat((image, gene), dim=1)).sigmoid().chunk(2, dim=1)
        return self.project(image_gate * image + gene_gate * gene)


class ModalityDropout(KeyedDropout):
    """Rows lose the first of two summaries with probability p / 2, else the second with p / 2; nothing is rescaled."""

    def forward(self, image: Tensor, gene: Tensor) -> tuple[Tensor, Tensor]:
        """Return both summaries [B, W], lost rows set to 0; keyed, row i is row i of the keys."""
        if not self.training or not self.p:
            return image, gene
        if self.keys is None:
            drawn = torch.rand(len(image), 1, device=image.device)
            no_image, either = drawn < self.p / 2, drawn < self.p
        else:
            no_image, either = self._draw(self.keys)
        return image.masked_fill(no_image, 0), gene.masked_fill(either & ~no_image, 0)

    @run_uncompiled  # as of `SpotDropout`
    def _draw(self, keys: RowKeys) -> tuple[Tensor, Tensor]:
        """bool [B, 1] each: the rows without the first summary, and those without either one; the same draw twice."""
        no_image, either = (keys.draw_events(chance, self.stream, 1) for chance in (self.p / 2, self.p))
        return no_image, either
