"""Which streams' encoders only look, so that their outputs can be kept, and what names such an encoder."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from stalign_pl.batch.features import STREAMS, Fingerprint
from stalign_pl.models.frozen import Frozen

PROJECTION = "to_tokens"
"""The part of a stream that is trained, and that takes the features."""

CHANGELESS = frozenset({"training", "source", "stream", "fused_attn", "grad_checkpointing"})
"""Attributes of modules that do not change what a frozen encoder says: where it came from, how it is computed."""


def cacheable_streams(model: nn.Module) -> dict[str, nn.Module]:
    """Streams, by name, that are a frozen encoder's vector [B, F] (`stream.features`) and a projection to tokens."""
    streams = {name: getattr(model, name, None) for name in STREAMS}
    return {name: stream for name, stream in streams.items() if stream is not None and _only_looks(stream)}


def _only_looks(stream: nn.Module) -> bool:
    encoders = [part for name, part in stream.named_children() if name != PROJECTION]
    looking = all(isinstance(part, Frozen) and not any(p.requires_grad for p in part.parameters()) for part in encoders)
    return hasattr(stream, "features") and hasattr(stream, PROJECTION) and bool(encoders) and looking


def fingerprint(stream: nn.Module) -> Fingerprint:
    """Name a stream's encoder by all that decides its features: modules, their plain attributes, tensors.

    Buffers that no state dict holds (a picture's mean and sd, the places of genes) count too; the projection does not.
    """
    architecture, weights = hashlib.sha256(), hashlib.sha256()
    for name, module in stream.named_modules():
        if not _is_projection(name):
            architecture.update(f"{name}\t{type(module).__qualname__}\t{sorted(_plain_attributes(module))}\n".encode())
    for name, tensor in _tensors(stream):
        weights.update(f"{name}\t{tensor.dtype}\t{list(tensor.shape)}\n".encode())
        weights.update(tensor.contiguous().flatten().view(torch.uint8).numpy())
    return Fingerprint(architecture.hexdigest(), weights.hexdigest())


def encoder_tensors(stream: nn.Module) -> dict[str, Tensor]:
    """The tensors of a stream's state dict that its projection does not own, by key."""
    return {key: tensor for key, tensor in stream.state_dict().items() if not _is_projection(key)}


def _tensors(stream: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in (*stream.named_parameters(), *stream.named_buffers()):
        if not _is_projection(name):
            yield name, tensor.detach().cpu()


def _is_projection(name: str) -> bool:
    return name == PROJECTION or name.startswith(f"{PROJECTION}.")


def _plain_attributes(module: nn.Module) -> Iterator[str]:
    """`name=value` of the attributes that are numbers, words, or tuples of them."""
    for name, value in vars(module).items():
        if name.startswith("_") or name in CHANGELESS:
            continue
        parts = value if isinstance(value, (tuple, list)) else (value,)
        if all(part is None or isinstance(part, (bool, int, float, str)) for part in parts):
            yield f"{name}={value!r}"
