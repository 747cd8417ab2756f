"""Multi-head attention whose inner width need not be the token width, and the pre-norm Transformer block of it."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from stalign_pl.models.dropout import SpotDropout


class Attention(nn.Module):
    """Multi-head attention of `query` tokens over `context` tokens; no normalisation, no residual.

    torch.nn.MultiheadAttention divides the token width itself among the heads; here heads x head_dim is free (8 x 64
    for tokens of width 548). Maps to queries, keys and values have no bias (Vaswani et al. 2017), the output has one.

    Args:
        width: W, width of a token.
        heads: number of heads.
        head_dim: width of a head.
        dropout: in training, of the attention weights and of the output, in [0, 1].
    """

    def __init__(self, width: int, heads: int, head_dim: int, dropout: float = 0.0) -> None:
        super().__init__()
        inner = heads * head_dim
        self.heads = heads
        self.drop_weights = SpotDropout(dropout)
        self.to_query = nn.Linear(width, inner, bias=False)
        self.to_key_value = nn.Linear(width, 2 * inner, bias=False)
        self.to_out = nn.Sequential(nn.Linear(inner, width), SpotDropout(dropout))

    def forward(self, query: Tensor, context: Tensor) -> Tensor:
        """Return attended tokens [B, T, W] of `query` [B, T, W] and `context` [B, S, W]."""
        key, value = self.to_key_value(context).chunk(2, dim=-1)
        query, key, value = self._split(self.to_query(query)), self._split(key), self._split(value)
        if self.drop_weights.keyed:  # the fused kernel draws its mask from the generator
            weights = (query @ key.mT / query.shape[-1] ** 0.5).softmax(dim=-1)
            attended = self.drop_weights(weights) @ value
        else:
            chance = self.drop_weights.p if self.training else 0.0
            attended = functional.scaled_dot_product_attention(query, key, value, dropout_p=chance)
        return self.to_out(attended.transpose(1, 2).flatten(2))

    def _split(self, tokens: Tensor) -> Tensor:
        """Return [B, heads, T, head_dim] of [B, T, heads * head_dim]."""
        return tokens.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class TransformerBlock(nn.Module):
    """x + attention(LN x), then x + MLP(LN x): the pre-norm block (Xiong et al. 2020).

    Args:
        width: W, width of a token.
        heads: number of heads.
        head_dim: width of a head.
        mlp: hidden width of the MLP.
        dropout: in training, in [0, 1].
    """

    def __init__(self, width: int, heads: int, head_dim: int, mlp: int, dropout: float) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(width)
        self.attention = Attention(width, heads, head_dim, dropout)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, mlp),
            nn.GELU(),
            SpotDropout(dropout),
            nn.Linear(mlp, width),
            SpotDropout(dropout),
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """Return tokens [B, T, W] of `tokens` [B, T, W]."""
        normed = self.norm_attention(tokens)
        tokens = tokens + self.attention(normed, normed)
        return tokens + self.mlp(tokens)
