"""Readers, one a source. A new one is a function `discover(folder, options)` and a line in SOURCES."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from data_prep.slide.catalogue import CatalogueRow
from data_prep.sources.h5ad import slide as anndata_file
from data_prep.sources.hest import catalogue as hest_catalogue
from data_prep.sources.hest import slide as hest
from data_prep.sources.job import Discovery, ReaderOptions, SlideJob, Source
from data_prep.sources.legacy_st import slide as legacy_st
from data_prep.sources.space_ranger import slide as space_ranger
from data_prep.sources.spatialdata_zarr import slide as spatialdata_zarr
from data_prep.sources.stimage import catalogue as stimage_catalogue
from data_prep.sources.stimage import slide as stimage
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
    """Returns the source of a name.

    Raises:
        ConfigError: there is none of that name; lists those there are.
    """
    if name not in SOURCES:
        raise ConfigError(f"unknown source {name!r}; known sources: {', '.join(SOURCES)}")
    return SOURCES[name]


__all__ = ["CATALOGUES", "SOURCES", "Discovery", "ReaderOptions", "SlideJob", "Source", "find_source"]
