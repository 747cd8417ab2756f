"""Find the streams whose encoders are frozen, hence cacheable, and fingerprint those encoders."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from stalign_pl.batch.features import STREAMS, Fingerprint
from stalign_pl.models.frozen import Frozen

PROJECTION = "to_tokens"
"""The trainable part of a stream, whose input are the features."""

CHANGELESS = frozenset({"training", "source", "stream", "fused_attn", "grad_checkpointing"})
"""Attributes of modules that do not change a frozen encoder's output: where it came from, how it is computed."""


def find_cacheable_streams(model: nn.Module) -> dict[str, nn.Module]:
    """Return, by name, the streams of a frozen encoder (`stream.features`, [B, F]) and a projection to tokens."""
    streams = {name: getattr(model, name, None) for name in STREAMS}
    return {name: stream for name, stream in streams.items() if stream is not None and _is_cacheable(stream)}


def _is_cacheable(stream: nn.Module) -> bool:
    encoders = [part for name, part in stream.named_children() if name != PROJECTION]
    frozen = all(isinstance(part, Frozen) and not any(p.requires_grad for p in part.parameters()) for part in encoders)
    return hasattr(stream, "features") and hasattr(stream, PROJECTION) and bool(encoders) and frozen


def fingerprint_encoder(stream: nn.Module) -> Fingerprint:
    """Hash all that decides the features of a stream's encoder: modules, their plain attributes, tensors.

    Buffers that are not in the state dict (an image's mean and sd, the columns of genes) count too; the projection does
    not.
    """
    architecture, weights = hashlib.sha256(), hashlib.sha256()
    for name, module in stream.named_modules():
        if not _is_projection(name):
            architecture.update(f"{name}\t{type(module).__qualname__}\t{sorted(_plain_attributes(module))}\n".encode())
    for name, tensor in _parameters_and_buffers(stream):
        weights.update(f"{name}\t{tensor.dtype}\t{list(tensor.shape)}\n".encode())
        weights.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return Fingerprint(architecture.hexdigest(), weights.hexdigest())


def get_encoder_tensors(stream: nn.Module) -> dict[str, Tensor]:
    """Return the tensors of a stream's state dict, by key, without those of its projection."""
    return {key: tensor for key, tensor in stream.state_dict().items() if not _is_projection(key)}


def _parameters_and_buffers(stream: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield (name, tensor on the CPU) of the encoder."""
    for name, tensor in (*stream.named_parameters(), *stream.named_buffers()):
        if not _is_projection(name):
            yield name, tensor.detach().cpu()


def _is_projection(name: str) -> bool:
    return name == PROJECTION or name.startswith(f"{PROJECTION}.")


def _plain_attributes(module: nn.Module) -> Iterator[str]:
    """Yield `name=value` of the attributes that are None, numbers, strings, or tuples or lists of them."""
    for name, value in vars(module).items():
        if name.startswith("_") or name in CHANGELESS:
            continue
        parts = value if isinstance(value, (tuple, list)) else (value,)
        if all(part is None or isinstance(part, (bool, int, float, str)) for part in parts):
            yield f"{name}={value!r}"
