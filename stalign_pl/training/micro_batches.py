"""One loss over a batch whose rows pass through the model a few at a time: exact, negatives and temperature included.

A contrastive loss is no sum over rows, so accumulating the losses of parts is another loss. GradCache (Gao et al. 2021,
arXiv 2101.06983) splits the backward pass at the embeddings instead: they are computed without a graph, part by part;
the loss of all of them is differentiated once, down to the embeddings and its own parameters; then each part passes
through the model again, with a graph, and takes its rows of that gradient further back. Memory for activations is that
of one part; the price is a second forward pass.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stalign_pl.errors import ConfigError
from stalign_pl.objectives.three_level import LossTerms

DRIFT = 0.05
"""How far the two forward passes may lie apart, by the largest embedding: rounding does not reach it."""


def micro_batches(rows: int, size: int | None) -> list[slice]:
    """The parts, `size` rows each, of a process's `rows` rows; None is one part.

    Raises:
        ConfigError: `size` does not divide `rows`.
    """
    size = rows if size is None else size
    if size < 1 or rows % size:
        sizes = [part for part in range(1, rows + 1) if rows % part == 0]
        wanted = min(max(size, 1), rows)
        near = sorted({max(part for part in sizes if part <= wanted), min(part for part in sizes if part >= wanted)})
        raise ConfigError(
            f"model.micro_batch is {size}: it does not divide the {rows} rows that a process takes of each global "
            f"batch (data.composition.slides x spots, by the number of processes); nearest that do: "
            f"{', '.join(map(str, near))}"
        )
    return [slice(start, start + size) for start in range(0, rows, size)]


def loss_by_parts(
    embed: Callable[[slice], Any],
    loss: Callable[[Any], LossTerms],
    parameters: Iterable[Tensor],
    parts: list[slice],
    backward: Callable[[Tensor], None],
    check: bool = False,
) -> LossTerms:
    """The loss terms of all rows, the gradient of all parts but the last already in `.grad`.

    The gradient of the `total` returned is the last part's and that of the loss's own parameters: whoever calls
    `backward` on it completes every parameter's gradient, and DDP, which sees that backward pass alone, reduces each
    gradient once. Random draws of the first pass are repeated in the second.

    Args:
        embed: rows -> embeddings (named tensors, [rows, D] each, or None alike for all rows).
        loss: embeddings of all rows -> terms; called once, on every rank.
        parameters: those of the loss.
        parts: of `micro_batches`.
        backward: what is called in place of `Tensor.backward` on each part but the last; scales as mixed precision
            wants. The gradients must not be reduced over ranks in it.
        check: compare the two passes (one device synchronisation).

    Raises:
        ConfigError: with `check`, the model's second pass gave other embeddings than its first.
    """
    states, passed = [], []
    with torch.no_grad():
        for part in parts:
            states.append(Generators.now())
            passed.append(embed(part))
    kind, absent = type(passed[0]), {name: None for name, tensor in vars(passed[0]).items() if tensor is None}
    names = [name for name in vars(passed[0]) if name not in absent]
    cached = {name: _cached([getattr(part, name) for part in passed]) for name in names}
    del passed
    terms = loss(kind(**cached, **absent))
    own = [parameter for parameter in parameters if parameter.requires_grad]
    gradients = torch.autograd.grad(terms.total, [*cached.values(), *own], allow_unused=True)
    asked = dict(zip(names, gradients, strict=False))
    for state, part in zip(states, parts, strict=True):
        state.restore()
        again = embed(part)
        if check and part is parts[0]:
            _refuse_drift({name: cached[name][part] for name in names}, vars(again))
        share = _product((getattr(again, name), _rows(asked[name], part)) for name in names)
        if part is not parts[-1]:
            backward(share)
    share = share + _product(zip(own, gradients[len(names) :], strict=True))
    return replace(terms, total=(share - share.detach()) + terms.total.detach())


@dataclass(frozen=True)
class Generators:
    """The states of the generators that a model may draw from: torch's of CPU and device, numpy's, Python's."""

    cpu: Tensor
    device: Tensor | None
    numpy: dict[str, Any]
    python: tuple[Any, ...]

    @classmethod
    def now(cls) -> Generators:
        device = torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None
        return cls(torch.get_rng_state(), device, np.random.get_state(legacy=False), random.getstate())

    def restore(self) -> None:
        torch.set_rng_state(self.cpu)
        if self.device is not None:
            torch.cuda.set_rng_state(self.device)
        np.random.set_state(self.numpy)
        random.setstate(self.python)


def _cached(parts: list[Tensor]) -> Tensor:
    """One leaf of all rows. float32 at least, as in the loss: a gradient without mixed precision's scale is too small
    for float16."""
    rows = torch.cat(parts)
    return rows.to(torch.promote_types(rows.dtype, torch.float32)).requires_grad_()


def _rows(gradient: Tensor | None, part: slice) -> Tensor | None:
    return None if gradient is None else gradient[part]


def _product(pairs: Iterable[tuple[Tensor, Tensor | None]]) -> Tensor | int:
    """sum <tensor, gradient>: its gradient with respect to each tensor is the one given."""
    return sum((tensor.to(gradient.dtype) * gradient).sum() for tensor, gradient in pairs if gradient is not None)


@torch.no_grad()
def _refuse_drift(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    apart = [
        name
        for name, tensor in first.items()
        if ((second[name].to(tensor.dtype) - tensor).abs() > DRIFT * tensor.abs().max()).any()
    ]
    if apart:
        raise ConfigError(
            f"model.micro_batch: a second forward pass of the same rows gave other embeddings ({', '.join(apart)}), so "
            f"their gradient would be wrong. An encoder that keeps a state or has a generator of its own cannot be "
            f"trained in micro-batches: set model.micro_batch: null"
        )
