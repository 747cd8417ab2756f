"""Prepares stored pictures for an encoder: cut out, turned, resized. Pure functions of tensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Interpolation = Literal["bilinear", "bicubic"]


@dataclass(frozen=True)
class PictureForm:
    """The form in which an encoder takes its pictures.

    Attributes:
        size: side, px.
        interpolation: how stored pictures are resized to that side.
    """

    size: int
    interpolation: Interpolation = "bilinear"


def crop_and_resize(
    image: Tensor,
    box: Tensor,
    px: Tensor,
    size: int,
    turns: Tensor | None = None,
    interpolation: Interpolation = "bilinear",
) -> Tensor:
    """Cut boxes out of pictures and resize them, antialiased when shrinking.

    The filter is separable, so each picture is multiplied by two small matrices: exact at any scale, one pass over the
    pixels, and on a GPU a batched matrix product.

    Args:
        image: uint8 [B, S, S, 3], each picture in the upper left corner.
        box: [B, 4] (x0, y0, x1, y1) in pixels; what lies outside the picture repeats its border.
        px: [B] side of each picture.
        size: side of the result, px.
        turns: bool [B, 3], swap axes, mirror x, mirror y.
        interpolation: bilinear (a triangle), or bicubic (Keys 1981 with a = -0.5, as Pillow and torchvision have it).

    Returns:
        float32 [B, 3, size, size] in [0, 1].
    """
    side = image.shape[1]
    across = _filter(box[:, 0], box[:, 2], px, side, size, interpolation)
    down = _filter(box[:, 1], box[:, 3], px, side, size, interpolation)
    if turns is not None:
        across = torch.where(turns[:, 1, None, None], across.flip(1), across)
        down = torch.where(turns[:, 2, None, None], down.flip(1), down)
    rows = torch.bmm(down, image.view(len(image), side, side * 3).to(torch.float32))  # [B, size, S * 3]
    rows = rows.view(-1, size, side, 3).permute(0, 3, 1, 2)  # [B, 3, size, S]
    shown = torch.matmul(rows, across.transpose(1, 2)[:, None]) / 255
    if turns is not None:
        shown = torch.where(turns[:, 0, None, None, None], shown.transpose(2, 3), shown)
    return shown.clamp(0, 1) if interpolation == "bicubic" else shown  # whose negative weights overshoot


def _filter(low: Tensor, high: Tensor, px: Tensor, side: int, size: int, interpolation: Interpolation) -> Tensor:
    """Weights of one axis' pixels in each output point.

    Args:
        low: [B], where the box begins, px.
        high: [B], where it ends, px.
        px: [B], side of the picture; pixels beyond have weight 0.
        side: pixels of the axis.
        size: output points.
        interpolation: as in `crop_and_resize`.

    Returns:
        float32 [B, size, side]; rows sum to 1.
    """
    step = (high - low) / size
    point = torch.arange(size, device=low.device) + 0.5
    centre = low[:, None] + point * step[:, None]
    border = centre.clamp(min=0.5).minimum(px[:, None] - 0.5)
    if interpolation == "bicubic":  # within the border's half pixel the next ones count
        border = torch.where((centre < 0) | (centre > px[:, None]), border, centre)
    pixel = torch.arange(side, device=low.device) + 0.5
    distance = (pixel[None, None, :] - border[:, :, None]).abs() / step.clamp(min=1)[:, None, None]
    weight = _KERNELS[interpolation](distance) * (pixel < px[:, None])[:, None, :]
    return weight / weight.sum(dim=2, keepdim=True)


def _triangle(distance: Tensor) -> Tensor:
    """Linear kernel: 1 - d up to 1, then 0."""
    return (1 - distance).clamp(min=0)


def _cubic(distance: Tensor) -> Tensor:
    """Keys' kernel: 1 - 2.5 d^2 + 1.5 d^3 up to 1, 2 - 4 d + 2.5 d^2 - 0.5 d^3 from there to 2, then 0."""
    near = (1.5 * distance - 2.5) * distance * distance + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    return torch.where(distance < 1, near, torch.where(distance < 2, far, 0))


_KERNELS: dict[Interpolation, Callable[[Tensor], Tensor]] = {"bilinear": _triangle, "bicubic": _cubic}
