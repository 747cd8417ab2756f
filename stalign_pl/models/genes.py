"""Gene streams: tokens of a measured expression vector."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stalign_pl.batch.gene_panel import GenePanel
from stalign_pl.errors import ConfigError, check_sizes
from stalign_pl.models.attention import TransformerBlock
from stalign_pl.models.dropout import SpotDropout

PROJECTION = (1024, 512)
"""Hidden widths between the genes and the tokens of `NicheGeneTransformer`, as in the paper's code."""

READ_OUT = 256
"""Hidden width between the tokens of its Transformer and the stream's."""

CLAMP = 10.0
"""Standardised expression is clamped to +- this."""


class MissingGenes(nn.Module):
    """Standardises each gene, and puts a learned value where a slide did not measure it.

    Absence of a probe is not absence of a transcript. The learned value, one number for each gene, starts at 0, the
    mean of a standardised gene. The panel's mean and sd are buffers: a checkpoint holds those that it was trained with.

    Args:
        genes: the panel, G genes.
    """

    mean: Tensor
    sd: Tensor

    def __init__(self, genes: GenePanel) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.zeros(len(genes)))
        self.register_buffer("mean", torch.tensor(genes.mean, dtype=torch.float32))
        self.register_buffer("sd", torch.tensor(genes.sd, dtype=torch.float32))

    def forward(self, expression: Tensor, measured: Tensor) -> Tensor:
        """Return standardised expression [B, G], within +- CLAMP.

        Args:
            expression: float [B, G], log-normalised; values of unmeasured genes have no effect.
            measured: bool [B, G].

        Raises:
            ConfigError: other shapes than [B, G], or a mask that is not bool.
        """
        n_genes = len(self.value)
        if expression.shape[1:] != (n_genes,) or measured.shape != expression.shape or measured.dtype != torch.bool:
            raise ConfigError(
                f"expression {list(expression.shape)} and measured {list(measured.shape)} ({measured.dtype}): both "
                f"should be [B, {n_genes}], the gene panel the model was built for, and measured bool"
            )
        standardised = ((expression - self.mean) / self.sd).clamp(-CLAMP, CLAMP)
        return torch.where(measured, standardised, self.value.to(standardised.dtype))


class GeneMLP(nn.Module):
    """One hidden layer: genes -> hidden, LayerNorm, GELU, dropout, hidden -> tokens x width.

    Args:
        genes: the panel, G genes.
        tokens: T, number of tokens.
        width: W, width of a token.
        hidden: width of the hidden layer.
        dropout: in training, in [0, 1].
    """

    def __init__(self, genes: GenePanel, tokens: int, width: int, hidden: int = 1024, dropout: float = 0.0) -> None:
        super().__init__()
        check_sizes("GeneMLP", hidden=hidden)
        self.missing = MissingGenes(genes)
        self.mlp = nn.Sequential(
            nn.Linear(len(genes), hidden),
            nn.LayerNorm(hidden),
            nn.GELU(),
            SpotDropout(dropout),
            nn.Linear(hidden, tokens * width),
            nn.Unflatten(-1, (tokens, width)),
        )

    def forward(self, expression: Tensor, measured: Tensor) -> Tensor:
        """Return tokens [B, T, W] of `expression`, float [B, G], log-normalised, and `measured`, bool [B, G]."""
        return self.mlp(self.missing(expression, measured))


class NicheGeneTransformer(nn.Module):
    """The paper's adaptive gene encoder: genes -> 1024 -> 512 -> tokens x dim, Transformer, dim -> 256 -> width.

    Args:
        genes: the panel, G genes (4,384 in the paper's code).
        tokens: T, number of tokens.
        width: W, width of an output token.
        dim: width of a token inside the Transformer.
        depth: blocks of the pre-norm Transformer.
        heads: of its attention; heads x head_dim need not be `dim`.
        head_dim: width of a head.
        mlp: hidden width of its feed-forward layers.
        dropout: in training, in [0, 1].
    """

    def __init__(
        self,
        genes: GenePanel,
        tokens: int,
        width: int,
        dim: int = 548,
        depth: int = 6,
        heads: int = 8,
        head_dim: int = 64,
        mlp: int = 1024,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        check_sizes("NicheGeneTransformer", dim=dim, depth=depth, heads=heads, head_dim=head_dim, mlp=mlp)
        first, second = PROJECTION
        self.missing = MissingGenes(genes)
        self.project = nn.Sequential(
            nn.Linear(len(genes), first),
            nn.GELU(),
            nn.Linear(first, second),
            nn.GELU(),
            nn.Linear(second, tokens * dim),
            nn.Unflatten(-1, (tokens, dim)),
        )
        self.blocks = nn.Sequential(*(TransformerBlock(dim, heads, head_dim, mlp, dropout) for _ in range(depth)))
        self.read_out = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, READ_OUT), nn.GELU(), nn.Linear(READ_OUT, width)
        )

    def forward(self, expression: Tensor, measured: Tensor) -> Tensor:
        """Return tokens [B, T, W] of `expression`, float [B, G], log-normalised, and `measured`, bool [B, G]."""
        return self.read_out(self.blocks(self.project(self.missing(expression, measured))))
