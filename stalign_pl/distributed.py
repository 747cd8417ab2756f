"""The group of processes that share a global batch, and every way of summing and gathering over it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """This process's place among those that share a global batch. The default is one process alone."""

    rank: int = 0
    size: int = 1

    @classmethod
    def current(cls) -> World:
        """The default process group (gloo or nccl) where one is running, else one process alone."""
        if dist.is_available() and dist.is_initialized():
            return cls(dist.get_rank(), dist.get_world_size())
        return cls()

    def rows(self, local: int) -> slice:
        """Where this rank's `local` rows stand in the gathered batch."""
        return slice(self.rank * local, (self.rank + 1) * local)

    def sum_over_ranks(self, tensor: Tensor) -> Tensor:
        """The sum of `tensor` over all ranks, without gradient. A collective: every rank calls it."""
        total = tensor.detach().clone()
        if self.size > 1:
            dist.all_reduce(total)
        return total

    def max_over_ranks(self, tensor: Tensor) -> Tensor:
        """The elementwise maximum of `tensor` over all ranks, without gradient. A collective: every rank calls it."""
        largest = tensor.detach().clone()
        if self.size > 1:
            dist.all_reduce(largest, dist.ReduceOp.MAX)
        return largest


def all_gather(tensor: Tensor, world: World) -> Tensor:
    """Rows of all ranks in rank order: [b, ...] -> [b * size, ...], with gradient. A collective: every rank calls it.

    Every rank brings the same shape. The gradient of a rank's rows is the sum of what every rank's loss asks of them,
    so that DDP's mean over ranks of `size * loss share` is the gradient of the summed shares, exactly. A gather
    without gradient in its place scales or turns it (ratio 1 / size, direction cosine .99).
    """
    if world.size == 1:
        return tensor
    return _AllGather.apply(tensor, world)


def gather_parts(tensor: Tensor, world: World) -> list[Tensor]:
    """Each rank's tensor, in rank order, without gradient. A collective: every rank brings the same shape and dtype."""
    if world.size == 1:
        return [tensor.detach()]
    parts = [torch.empty_like(tensor, memory_format=torch.contiguous_format) for _ in range(world.size)]
    dist.all_gather(parts, tensor.detach().contiguous())
    return parts


def gather_objects(own: T, world: World) -> list[T]:
    """Each rank's object, in rank order; pickled, so for small ones. A collective: every rank calls it."""
    if world.size == 1:
        return [own]
    parts = [own] * world.size
    dist.all_gather_object(parts, own)
    return parts


def close_group() -> World:
    """Wait for all processes, then end their group, if there is one; this process's place in it."""
    world = World.current()
    if dist.is_available() and dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()
    return world


class _Context(Protocol):
    """What `_AllGather` keeps from forward to backward."""

    world: World
    local: int


class _AllGather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: _Context, tensor: Tensor, world: World) -> Tensor:
        ctx.world, ctx.local = world, len(tensor)
        return torch.cat(gather_parts(tensor, world))

    @staticmethod
    @once_differentiable
    def backward(ctx: _Context, gradient: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]  (the decorator's type)
        return ctx.world.sum_over_ranks(gradient.contiguous())[ctx.world.rows(ctx.local)], None
