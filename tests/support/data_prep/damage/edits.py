"""Ways to spoil a file."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import h5py

Spoil = Callable[[Path], object]


def remove(name: str) -> Spoil:
    def spoil(root: Path) -> None:
        import shutil

        path = root / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return spoil


def cut(name: str, share: float = 0.5) -> Spoil:
    def spoil(root: Path) -> None:
        content = (root / name).read_bytes()
        (root / name).write_bytes(content[: int(len(content) * share)])

    return spoil


def put(name: str, content: bytes) -> Spoil:
    return lambda root: (root / name).write_bytes(content)


def text(name: str, change: Callable[[str], str]) -> Spoil:
    """Change a text file, through gzip where its name says so."""

    def spoil(root: Path) -> None:
        path = root / name
        packed = path.suffix == ".gz"
        content = gzip.decompress(path.read_bytes()) if packed else path.read_bytes()
        changed = change(content.decode()).encode()
        path.write_bytes(gzip.compress(changed) if packed else changed)

    return spoil


def rows(name: str, change: Callable[[list[str]], list[str]], separator: str = ",", header: bool = True) -> Spoil:
    """Change the cells of every line but the header."""

    def edit(content: str) -> str:
        lines = content.splitlines()
        first = 1 if header else 0
        return "\n".join([*lines[:first], *(separator.join(change(line.split(separator))) for line in lines[first:])])

    return text(name, lambda content: edit(content) + "\n")


def hdf5(name: str, change: Callable[[h5py.File], object]) -> Spoil:
    def spoil(root: Path) -> None:
        with h5py.File(root / name, "r+") as file:
            change(file)

    return spoil


def without(name: str, key: str) -> Spoil:
    def change(file: h5py.File) -> None:
        del file[key]

    return hdf5(name, change)


def dataset(name: str, key: str, change: Callable[[Any], Any]) -> Spoil:
    """Replace an array of an HDF5 file by what `change` makes of it, of whatever shape and type."""

    def edit(file: h5py.File) -> None:
        new, attributes = change(file[key][()]), dict(file[key].attrs)
        del file[key]
        file[key] = new
        file[key].attrs.update(attributes)

    return hdf5(name, edit)


def table(name: str, change: Callable[[anndata.AnnData], anndata.AnnData | None]) -> Spoil:
    """Read an h5ad, change it, and write it again."""

    def spoil(root: Path) -> None:
        held = anndata.read_h5ad(root / name)
        (change(held) or held).write_h5ad(root / name)

    return spoil


def store(name: str, change: Callable[[Any], object]) -> Spoil:
    """Read a SpatialData store, change it in memory, and write it in its own place."""

    def spoil(root: Path) -> None:
        import shutil

        import spatialdata

        held = spatialdata.read_zarr(root / name)
        change(held)
        held.write(root / "changed.zarr")
        shutil.rmtree(root / name)
        (root / "changed.zarr").rename(root / name)

    return spoil


def both(*spoils: Spoil) -> Spoil:
    def spoil(root: Path) -> None:
        for one in spoils:
            one(root)

    return spoil
