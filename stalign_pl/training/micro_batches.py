"""The exact contrastive loss of a batch whose rows pass through the model a few at a time.

A contrastive loss is no sum over rows, so accumulating the losses of parts is another loss. GradCache (Gao et al. 2021,
arXiv 2101.06983) splits the backward pass at the embeddings instead. The embeddings are computed part by part without a
graph. The loss of all of them is differentiated once, with respect to the embeddings and to the loss's own parameters.
Then each part passes through the model again, with a graph, and its rows of that gradient are propagated to the
weights. Activations take the memory of one part; the price is a second forward pass.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from stalign_pl.errors import ConfigError
from stalign_pl.objectives.three_level import LossTerms

Embedded = TypeVar("Embedded")
"""Named tensors as attributes, [rows, D] each; None for an embedding that the model lacks."""

DRIFT = 0.05
"""Largest difference between the two forward passes, relative to the largest embedding; rounding stays below it."""


def split_rows(rows: int, size: int | None) -> list[slice]:
    """Split a process's rows into parts of equal size.

    Args:
        rows: of the process in a global batch.
        size: rows of a part; None makes one part of all.

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


def compute_loss_by_parts(
    embed: Callable[[slice], Embedded],
    loss: Callable[[Embedded], LossTerms],
    parameters: Iterable[Tensor],
    parts: list[slice],
    backward: Callable[[Tensor], None],
    check: bool = False,
) -> LossTerms:
    """Compute the loss terms of all rows, and add the gradient of all parts but the last to `.grad`.

    The gradient of the returned `total` is the last part's and that of the loss's own parameters. Calling `backward` on
    it completes every parameter's gradient; DDP sees only that backward pass and reduces each gradient once. The second
    pass repeats the random draws of the first.

    Args:
        embed: rows -> embeddings; the same are None for all rows.
        loss: embeddings of all rows -> terms; called once, on every rank.
        parameters: of the loss.
        parts: of `split_rows`.
        backward: called in place of `Tensor.backward` on each part but the last; scales as mixed precision requires.
            It must not reduce the gradients over ranks.
        check: compare the two passes (one device synchronisation).

    Raises:
        ConfigError: with `check`, the model's second pass gave other embeddings than its first.
    """
    states, passed = _embed_parts(embed, parts)
    absent = {name: None for name, tensor in vars(passed[0]).items() if tensor is None}
    names = [name for name in vars(passed[0]) if name not in absent]
    cached = {name: _join_rows([getattr(part, name) for part in passed]) for name in names}
    kind: Callable[..., Embedded] = type(passed[0])
    del passed
    terms = loss(kind(**cached, **absent))
    own = [parameter for parameter in parameters if parameter.requires_grad]
    gradients = torch.autograd.grad(terms.total, [*cached.values(), *own], allow_unused=True)
    of_embedding, of_own = dict(zip(names, gradients, strict=False)), gradients[len(names) :]

    def embed_again(part: slice, state: Generators) -> list[tuple[Tensor, Tensor | None]]:
        """Embed a part with a graph; its embeddings, each with its gradient."""
        state.restore()
        again = embed(part)
        if check and part is parts[0]:
            _refuse_drift({name: cached[name][part] for name in names}, vars(again))
        return [(getattr(again, name), _take_rows(of_embedding[name], part)) for name in names]

    *earlier, last = zip(parts, states, strict=True)
    for part, state in earlier:
        backward(_multiply(embed_again(part, state)))
    share = _multiply([*embed_again(*last), *zip(own, of_own, strict=True)])
    return replace(terms, total=(share - share.detach()) + terms.total.detach())


@torch.no_grad()
def _embed_parts(embed: Callable[[slice], Embedded], parts: list[slice]) -> tuple[list[Generators], list[Embedded]]:
    """Embed all parts without a graph; the generators' states before each part, and the embeddings."""
    states, passed = [], []
    for part in parts:
        states.append(Generators.now())
        passed.append(embed(part))
    return states, passed


@dataclass(frozen=True)
class Generators:
    """States of the generators that a model may draw from.

    Attributes:
        cpu: torch's, of the CPU.
        device: torch's, of the current GPU; None where CUDA is not in use.
        numpy: NumPy's global one.
        python: of the module `random`.
    """

    cpu: Tensor
    device: Tensor | None
    numpy: dict[str, Any]
    python: tuple[Any, ...]

    @classmethod
    def now(cls) -> Generators:
        """Copy the current states."""
        device = torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None
        return cls(torch.get_rng_state(), device, np.random.get_state(legacy=False), random.getstate())

    def restore(self) -> None:
        """Set the generators back to these states."""
        torch.set_rng_state(self.cpu)
        if self.device is not None:
            torch.cuda.set_rng_state(self.device)
        np.random.set_state(self.numpy)
        random.setstate(self.python)


def _join_rows(parts: list[Tensor]) -> Tensor:
    """Join an embedding's parts into one leaf of all rows.

    At least float32, as in the loss: float16 without the scale of mixed precision is too narrow for the gradient.
    """
    rows = torch.cat(parts)
    return rows.to(torch.promote_types(rows.dtype, torch.float32)).requires_grad_()


def _take_rows(gradient: Tensor | None, part: slice) -> Tensor | None:
    return None if gradient is None else gradient[part]


def _multiply(pairs: Iterable[tuple[Tensor, Tensor | None]]) -> Tensor:
    """Sum of <tensor, gradient>, whose gradient with respect to each tensor is the one given."""
    return reduce(
        torch.add, [(tensor.to(gradient.dtype) * gradient).sum() for tensor, gradient in pairs if gradient is not None]
    )


@torch.no_grad()
def _refuse_drift(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    """Raise ConfigError where the second pass gave other embeddings than the first."""
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
