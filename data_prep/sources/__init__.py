"""Readers, one a source. A new one is a function `discover(folder, options)` and a line in SOURCES."""

from __future__ import annotations

from data_prep.sources import anndata_file, legacy_st, space_ranger, spatialdata_zarr
from data_prep.sources.job import Discovery, ReaderOptions, SlideJob, Source
from stalign_pl.errors import ConfigError

SOURCES: dict[str, Source] = {
    "space_ranger": space_ranger.discover,
    "legacy_st": legacy_st.discover,
    "anndata": anndata_file.discover,
    "spatialdata": spatialdata_zarr.discover,
}


def find_source(name: str) -> Source:
    """The source of a name.

    Raises:
        ConfigError: there is none of that name; lists those there are.
    """
    if name not in SOURCES:
        raise ConfigError(f"unknown source {name!r}; known sources: {', '.join(SOURCES)}")
    return SOURCES[name]


__all__ = ["SOURCES", "Discovery", "ReaderOptions", "SlideJob", "Source", "find_source"]
