"""An image stream: a timm backbone, and its pooled features as tokens."""

from __future__ import annotations

from typing import Any

import timm.data
import torch
from torch import Tensor, nn

from stalign_pl.errors import ConfigError
from stalign_pl.features import Features
from stalign_pl.models.backbone import create_backbone
from stalign_pl.models.frozen import Frozen, frozen_prefixes
from stalign_pl.models.tokens import ToTokens


class TimmStream(nn.Module):
    """Any timm image encoder as one of the model's image streams.

    The paper's spot stream is `resnet50`, trained; its niche stream is UNI: `vit_large_patch16_224`, frozen, with
    `model_args: {init_values: 1e-5, dynamic_img_size: true}` and `weights: FILE`, or `hf-hub:MahmoodLab/UNI` with
    `pretrained: true`.

    Args:
        tokens: T, number of tokens.
        width: W, width of a token.
        name: timm name, with or without tag, or `hf-hub:OWNER/REPOSITORY`.
        size: side of the input in px; the caller resizes to it.
        pretrained: take the weights that belong to the name, from the hub.
        weights: local `.safetensors` or `.pth` file in place of the hub.
        frozen: the backbone only looks (`Frozen`); the projection to tokens is trained all the same.
        model_args: further arguments of the timm architecture.

    Raises:
        ConfigError: see `create_backbone`.
    """

    def __init__(
        self,
        tokens: int,
        width: int,
        name: str = "resnet50",
        size: int = 224,
        pretrained: bool = False,
        weights: str | None = None,
        frozen: bool = False,
        model_args: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.size = size
        backbone = create_backbone(name, size, pretrained, weights, model_args or {})
        data = timm.data.resolve_model_data_config(backbone)
        self.register_buffer("mean", torch.tensor(data["mean"]).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(data["std"]).view(-1, 1, 1), persistent=False)
        self.to_tokens = ToTokens(backbone.head_hidden_size, tokens, width)
        source = weights or (name if pretrained else None)
        self.backbone = Frozen(backbone, source) if frozen else backbone

    @property
    def frozen_prefixes(self) -> tuple[str, ...]:
        """Prefixes of the state-dict keys that a checkpoint may leave out."""
        return frozen_prefixes(self)

    def features(self, image: Tensor | Features) -> Tensor:
        """Pooled backbone features [B, F] of `image` [B, 3, size, size], float in [0, 1]; cached ones as they are.

        Raises:
            ConfigError: another shape than [B, 3, size, size].
        """
        if isinstance(image, Features):
            return image.values
        if image.shape[1:] != (3, self.size, self.size):
            raise ConfigError(f"image has shape {list(image.shape)}; should be [B, 3, {self.size}, {self.size}]")
        return self.backbone((image - self.mean) / self.std)

    def forward(self, image: Tensor | Features) -> Tensor:
        """Tokens [B, T, W] of `image` [B, 3, size, size], float in [0, 1], or of its cached features."""
        return self.to_tokens(self.features(image))
