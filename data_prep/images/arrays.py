"""Images that are arrays: in an HDF5 file (h5ad), or in a zarr folder, there also as an OME-Zarr pyramid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Protocol

import numpy as np

from data_prep.images.colour import blend_over_white, repeat_grey
from data_prep.images.place import ImagePlace

BLOCK_PX = 1024
"""Side of the blocks in which arrays are read, rounded to whole chunks."""

MAX_BLOCK_PIXELS = 400_000_000
"""An array whose single chunk is larger cannot be read by region; 1.2 GB as RGB."""


class StoredImage(Protocol):
    """An image as an array in a file: what of h5py's and zarr's arrays is used here."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype: ...

    @property
    def chunks(self) -> tuple[int, ...] | None: ...

    def __getitem__(self, window: tuple[slice, ...], /) -> object: ...


class ArrayBlocks:
    """A stored array as blocks. See Blocks.

    Values are uint8, or floats from 0 to 1 as matplotlib reads a PNG. A chunk that the store does not hold has the
    array's fill value: that is how both formats store an empty part.

    Args:
        channels_axis: 0 for [3, H, W], 2 for [H, W, 3], None for [H, W].
        name: of the array, for errors.
    """

    def __init__(self, place: ImagePlace, array: StoredImage, channels_axis: int | None, name: str) -> None:
        self.place, self.array, self.channels_axis, self.name = place, array, channels_axis, name
        rows = 1 if channels_axis == 0 else 0
        self.height, self.width = array.shape[rows : rows + 2]
        chunks = array.chunks[rows : rows + 2] if array.chunks else (1, 1)
        if chunks[0] * chunks[1] > MAX_BLOCK_PIXELS:
            raise place.error(f"{name} is stored in chunks of {chunks[1]} x {chunks[0]} px; at most 20,000 x 20,000")
        sides = [max(1, BLOCK_PX // chunk) * chunk for chunk in chunks]
        self.block_height, self.block_width = min(sides[0], self.height), min(sides[1], self.width)

    def read(self, row: int, column: int) -> np.ndarray:
        y, x = row * self.block_height, column * self.block_width
        y_end, x_end = min(y + self.block_height, self.height), min(x + self.block_width, self.width)
        window = slice(y, y_end), slice(x, x_end)
        where = f"{self.name}: rows {y} to {y_end}, columns {x} to {x_end}"
        with self.place.explain_damage(f"{where} cannot be read"):
            values = np.asarray(self.array[(slice(None), *window) if self.channels_axis == 0 else window])
        if values.dtype.kind == "f":
            if not (np.min(values) >= 0 and np.max(values) <= 1):
                raise self.place.error(
                    f"{where} holds floats from {np.min(values):g} to {np.max(values):g}; uint8, or floats from 0 to "
                    f"1, are wanted"
                )
            values = np.round(values * 255).astype(np.uint8)
        if self.channels_axis is None:
            return repeat_grey(values)
        values = np.moveaxis(values, self.channels_axis, 2)
        return blend_over_white(values) if values.shape[2] == 4 else values


def make_blocks(place: ImagePlace, array: StoredImage, name: str, axes: str = "") -> ArrayBlocks:
    """Returns the blocks of an array after a look at its shape and type.

    Args:
        axes: such as 'cyx'; '' tells it by the shape: [H, W, 3 or 4], [3 or 4, H, W], or [H, W] for grey.

    Raises:
        SlideError: another shape or type.
    """
    shape = tuple(array.shape)
    if not axes:
        axes = "yx" if len(shape) == 2 else "yxc" if len(shape) == 3 and shape[2] in (3, 4) else "cyx"
    channels_axis = {"cyx": 0, "yxc": 2, "yx": None}.get(axes, -1)
    right = channels_axis != -1 and len(shape) == len(axes) and min(shape) > 0
    if not right or (channels_axis is not None and shape[channels_axis] not in (3, 4)):
        raise place.error(
            f"{name} has shape {shape}{f' with axes {axes}' if axes else ''}; [height, width, 3], [3, height, width] "
            f"or, where it is grey, [height, width] is wanted"
        )
    if array.dtype != np.uint8 and array.dtype.kind != "f":
        raise place.error(f"{name} holds {array.dtype}; uint8, or floats from 0 to 1, are wanted")
    return ArrayBlocks(place, array, channels_axis, name)


def open_hdf5(place: ImagePlace, stack: ExitStack) -> list[ArrayBlocks]:
    """Open an array of an HDF5 file.

    Raises:
        SlideError: not HDF5, no such array, or one that is no image.
    """
    import h5py

    with place.explain_damage("cannot be read as HDF5"):
        file = stack.enter_context(h5py.File(place.path, "r"))
        array = file.get(place.member)
    if not isinstance(array, h5py.Dataset):
        raise place.error("is not an array of this file")
    return [make_blocks(place, array, "the array")]


def open_zarr(place: ImagePlace) -> list[ArrayBlocks]:
    """Open an array, or a group with OME-Zarr `multiscales`, of a zarr folder; format 2 or 3.

    Raises:
        SlideError: no zarr folder, no such member, or one that is no image.
    """
    import zarr

    with place.explain_damage("cannot be read as zarr"):
        node = zarr.open(place.path, path=place.member or None, mode="r")
    if isinstance(node, zarr.Array):
        return [make_blocks(place, node, "the array")]
    images = _find_multiscales(node.attrs.asdict())
    if not images:
        raise place.error("is a group without `multiscales`; an array or an OME-Zarr image is wanted")
    with place.explain_damage("has `multiscales` that cannot be read"):
        axes, names = _read_pyramid(images)
        nodes = [node[name] for name in names]
    levels = []
    for found, name in zip(nodes, names, strict=True):
        if not isinstance(found, zarr.Array):
            raise place.error(f"has a level {name} that is a group; an array is wanted")
        levels.append(make_blocks(place, found, name, axes))
    return sorted(levels, key=lambda level: -level.width)


def _find_multiscales(attributes: Mapping[str, object]) -> object:
    """Returns OME-Zarr's `multiscales`, in `ome` since version 0.5; None where there is none."""
    place = attributes.get("ome", attributes)
    return place.get("multiscales") if isinstance(place, Mapping) else None


def _read_pyramid(multiscales: object) -> tuple[str, list[str]]:
    """Returns the axes, such as 'cyx', and the paths of the levels, of the first image of `multiscales`.

    Raises:
        ValueError: not of OME-Zarr's form.
        KeyError: an axis without name, a level without path, no levels.
    """
    image = multiscales[0] if isinstance(multiscales, Sequence) else None
    if not isinstance(image, Mapping):
        raise ValueError(f"{multiscales!r} is no list of images")
    axes = "".join(axis if isinstance(axis, str) else axis["name"] for axis in image.get("axes", ()))
    return axes, [level["path"] for level in image["datasets"]]
