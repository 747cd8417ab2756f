"""The image stream: a timm backbone, and its pooled features as tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from timm.data.config import resolve_model_data_config
from torch import Tensor, nn

from stalign_pl.batch.features import Features
from stalign_pl.errors import ConfigError
from stalign_pl.models.frozen import Source, find_frozen_prefixes
from stalign_pl.models.image.backbone import HUB, create_backbone, read_hub_architecture
from stalign_pl.models.image.recomputation import recompute
from stalign_pl.models.image.trained_part import Trains, select_trainable
from stalign_pl.models.tokens import ToTokens


class TimmStream(nn.Module):
    """Any timm image encoder as one of the model's image streams.

    The paper's spot stream is `resnet50`, trained; its niche stream is UNI: `vit_large_patch16_224` with
    `trains: none`, `model_args: {init_values: 1e-5, dynamic_img_size: true}` and `weights: FILE`, or
    `hf-hub:MahmoodLab/UNI` with `pretrained: true`.

    Args:
        tokens: T, number of tokens.
        width: W, width of a token.
        name: timm name, with or without tag, or `hf-hub:OWNER/REPOSITORY`.
        size: side of the input in px; the caller resizes to it.
        pretrained: take the weights that belong to the name, from the hub.
        weights: local `.safetensors` or `.pth` file in place of the hub.
        trains: trainable part of the backbone: `all`; `none`, frozen (`Frozen`); `{last: N}`, its last N blocks
            (`LastBlocks`); `{rank: R, alpha: 16, dropout: 0}`, low-rank adapters in a frozen backbone (`LowRank`).
            The projection to tokens is always trainable.
        model_args: further arguments of the timm architecture.
        gradient_checkpointing: keep only the input of each block and compute the rest again in the backward pass: less
            memory, the same gradient, about a third more time.
        mean: of the three channels, each in [0, 1], by which images are normalised; null takes that of the weights.
        std: likewise, each above 0.

    Raises:
        ConfigError: see `create_backbone`, `select_trainable` and `recompute`; a mean or std out of range.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        tokens: int,
        width: int,
        name: str = "resnet50",
        size: int = 224,
        pretrained: bool = False,
        weights: str | None = None,
        trains: Trains = "all",
        model_args: dict[str, Any] | None = None,
        gradient_checkpointing: bool = False,
        mean: tuple[float, float, float] | None = None,
        std: tuple[float, float, float] | None = None,
    ) -> None:
        super().__init__()
        self.size = size
        backbone = create_backbone(name, size, pretrained, weights, model_args or {})
        own = resolve_model_data_config(backbone)
        mean, std = mean or own["mean"], std or own["std"]
        if not all(0 <= value <= 1 for value in mean) or not all(0 < value <= 1 for value in std):
            raise ConfigError(
                f"image encoder {name!r}: mean is {list(mean)} and std {list(std)}; images are in [0, 1] (divide those "
                f"of 0 to 255 by 255), and std is above 0"
            )
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)
        self.to_tokens = ToTokens(backbone.head_hidden_size, tokens, width)
        self.backbone = select_trainable(name, backbone, trains, weights or (name if pretrained else None))
        if gradient_checkpointing:
            recompute(name, self.backbone)

    @property
    def frozen_prefixes(self) -> tuple[str, ...]:
        """Prefixes of the state-dict keys that a checkpoint may leave out."""
        return find_frozen_prefixes(self)

    def features(self, image: Tensor | Features) -> Tensor:
        """Return pooled backbone features [B, F].

        Args:
            image: [B, 3, size, size], float in [0, 1]; cached features are returned as they are.

        Raises:
            ConfigError: another shape than [B, 3, size, size].
        """
        if isinstance(image, Features):
            return image.values
        if image.shape[1:] != (3, self.size, self.size):
            raise ConfigError(f"image has shape {list(image.shape)}; should be [B, 3, {self.size}, {self.size}]")
        return self.backbone((image - self.mean) / self.std)

    def detach_weights(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return arguments that build this stream without loading its weights: these come in a state dict.

        Name and options of the architecture replace a repository's name; mean and std, which go with the weights, are
        written out.

        Args:
            arguments: those that it was built with.

        Raises:
            ConfigError: see `read_hub_architecture`.
        """
        name, model_args = arguments["name"], arguments.get("model_args")
        if name.startswith(HUB):
            name, own = read_hub_architecture(name)
            model_args = own | (model_args or {})
        statistics = {which: getattr(self, which).flatten().tolist() for which in ("mean", "std")}
        without = {"name": name, "model_args": model_args, "pretrained": False, "weights": None}
        return {**arguments, **without, **statistics}

    @staticmethod
    def source(arguments: Mapping[str, Any]) -> Source | None:
        """Return where the first weights of a stream with these arguments come from; None if they are random."""
        if arguments.get("weights") is not None:
            return Source(arguments["weights"], on_hub=False)
        return Source(arguments["name"], on_hub=True) if arguments.get("pretrained") else None

    @staticmethod
    def attach_weights(arguments: Mapping[str, Any], source: Source) -> dict[str, Any]:
        """Return detached arguments with the weights of a source again."""
        if source.on_hub:
            return {**arguments, "name": source.name, "pretrained": True}
        return {**arguments, "weights": source.name}

    def forward(self, image: Tensor | Features) -> Tensor:
        """Return tokens [B, T, W] of `image` [B, 3, size, size], float in [0, 1], or of its cached features."""
        return self.to_tokens(self.features(image))
