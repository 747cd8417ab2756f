"""scGPT's encoder: one vector for each spot of its genes and their binned values."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class ScGPTShape:
    """The encoder's settings in `args.json`.

    Attributes:
        width: of a token and of the result (`embsize`).
        heads: of the Transformer (`nheads`).
        layers: of the Transformer (`nlayers`).
        hidden: width of its feed-forward layers (`d_hid`).
        dropout: in training.
    """

    width: int
    heads: int
    layers: int
    hidden: int
    dropout: float


class ScGPTEncoder(nn.Module):
    """The encoder of scGPT (Cui et al. 2024, Nature Methods) without decoders; its weights have the published names.

    Args:
        shape: of the encoder.
        vocabulary: number of tokens, genes and special ones.
        padding: the padding token.
    """

    def __init__(self, shape: ScGPTShape, vocabulary: int, padding: int) -> None:
        super().__init__()
        self.padding = padding
        self.encoder = GeneNames(vocabulary, shape.width, padding)
        self.value_encoder = GeneValues(shape.width, shape.dropout)
        layer = nn.TransformerEncoderLayer(shape.width, shape.heads, shape.hidden, shape.dropout, batch_first=True)
        self.transformer_encoder = nn.TransformerEncoder(layer, shape.layers, enable_nested_tensor=False)

    def forward(self, tokens: Tensor, values: Tensor) -> Tensor:
        """Return the output at `<cls>`, float32 [B, width] of unit length.

        Args:
            tokens: int64 [B, L], `<cls>` first.
            values: float [B, L], binned.
        """
        given = self.encoder(tokens) + self.value_encoder(values)
        output = self.transformer_encoder(given, src_key_padding_mask=tokens == self.padding)
        return functional.normalize(output[:, 0].float(), dim=-1)


class GeneNames(nn.Module):
    """A learned vector for each token, LayerNorm."""

    def __init__(self, vocabulary: int, width: int, padding: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width, padding_idx=padding)
        self.enc_norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return [B, L, width] of `tokens`, int64 [B, L]."""
        return self.enc_norm(self.embedding(tokens))


class GeneValues(nn.Module):
    """A vector for each binned value: linear, ReLU, linear, LayerNorm, dropout."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.linear1 = nn.Linear(1, width)
        self.linear2 = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, values: Tensor) -> Tensor:
        """Return [B, L, width] of `values`, float [B, L]."""
        return self.dropout(self.norm(self.linear2(functional.relu(self.linear1(values.unsqueeze(-1))))))
