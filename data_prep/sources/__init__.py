"""Readers, one a source. A new one is a function `discover(folder, options)` and a line in SOURCES."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from data_prep.catalogue import CatalogueRow
from data_prep.sources import (
    anndata_file,
    hest,
    hest_catalogue,
    legacy_st,
    space_ranger,
    spatialdata_zarr,
    stimage,
    stimage_catalogue,
)
from data_prep.sources.job import Discovery, ReaderOptions, SlideJob, Source
from stalign_pl.errors import ConfigError

SOURCES: dict[str, Source] = {
    "space_ranger": space_ranger.discover,
    "legacy_st": legacy_st.discover,
    "anndata": anndata_file.discover,
    "stimage": stimage.discover,
    "hest": hest.discover,
    "spatialdata": spatialdata_zarr.discover,
}

CATALOGUES: dict[str, tuple[Callable[[Path], Path], Callable[[Path], dict[str, CatalogueRow]]]] = {
    "stimage": (stimage_catalogue.find_catalogue, stimage_catalogue.read_catalogue),
    "hest": (hest_catalogue.find_catalogue, hest_catalogue.read_catalogue),
}
"""Sources whose slides a catalogue names before any other file is there: how it is found in a folder, and read."""


def find_source(name: str) -> Source:
    """The source of a name.

    Raises:
        ConfigError: there is none of that name; lists those there are.
    """
    if name not in SOURCES:
        raise ConfigError(f"unknown source {name!r}; known sources: {', '.join(SOURCES)}")
    return SOURCES[name]


__all__ = ["CATALOGUES", "SOURCES", "Discovery", "ReaderOptions", "SlideJob", "Source", "find_source"]
