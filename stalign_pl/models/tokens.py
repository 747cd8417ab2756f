"""Project one vector to tokens: the form in which every stream reaches the fusion."""

from __future__ import annotations

from torch import Tensor, nn


class ToTokens(nn.Module):
    """Linear features -> width, GELU, linear width -> tokens x width.

    The same for every encoder. (The paper's code has another for each, among them a 1x1 convolution of one channel to
    8, whose tokens are scaled copies of one vector.)

    Args:
        features: F, width of the vector.
        tokens: T, number of tokens.
        width: W, width of a token.
    """

    def __init__(self, features: int, tokens: int, width: int) -> None:
        super().__init__()
        self.tokens = tokens
        self.width = width
        self.project = nn.Sequential(nn.Linear(features, width), nn.GELU(), nn.Linear(width, tokens * width))

    def forward(self, features: Tensor) -> Tensor:
        """Return tokens [B, T, W] of `features` [B, F]."""
        return self.project(features).unflatten(-1, (self.tokens, self.width))
