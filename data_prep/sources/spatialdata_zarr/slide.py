"""SpatialData stores (.zarr): counts from a table, positions from the shapes it annotates, the finest image of them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data_prep.slide.genes import GeneNames
from data_prep.slide.slide import Slide, SlideError
from data_prep.slide.validation import check_whole_counts
from data_prep.sources.elements import as_frame, read_frame, read_mapping
from data_prep.sources.h5ad.frames import read_frame_genes, read_frame_grid, read_frame_labels, select_tissue
from data_prep.sources.h5ad.raw_counts import describe_counts, find_counts, find_counts_on_disk, take_counts
from data_prep.sources.job import Discovery, ReaderOptions
from data_prep.sources.reading import explain_damage
from data_prep.sources.spatialdata_zarr.images import place_image
from data_prep.sources.spot_array import identify_array
from stalign_pl.errors import ConfigError

if TYPE_CHECKING:
    import geopandas
    import pandas as pd
    import spatialdata
    import zarr

ROOT_FILES = ("zarr.json", ".zattrs", ".zgroup")
"""One of these lies in the folder of every store, and of every element of one."""

REQUIRED = "reading SpatialData needs the library spatialdata: pip install 'stalign-pl[spatialdata]'"


def discover(folder: Path, options: ReaderOptions) -> Discovery:
    """Find the slides of a store, or of a folder of stores.

    One slide a region that the table annotates, named after the store; where it annotates several, <store>_<region>.

    Raises:
        ConfigError: no store, none with a table to read, or the library spatialdata is not installed.
    """
    try:
        import spatialdata  # noqa: F401
    except ImportError as error:
        raise ConfigError(REQUIRED) from error
    inner = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    stores = [folder] if _is_store(folder) else [path for path in inner if _is_store(path)]
    if not stores:
        raise ConfigError(
            f"{folder} holds no SpatialData store: wanted a zarr folder (with {' or '.join(ROOT_FILES)}), or a folder "
            f"of them"
        )
    jobs: list[SpatialDataSlide] = []
    damaged: list[UnreadStore] = []
    for store in stores:
        name = store.resolve().name.removesuffix(".zarr")
        try:
            table, regions = _find_regions(name, store, options)
        except SlideError as error:
            damaged.append(UnreadStore(name, error.what))
            continue
        jobs += [
            SpatialDataSlide(name if len(regions) == 1 else f"{name}_{region}", store, table, region, options.labels)
            for region in regions
        ]
    if not jobs:
        raise ConfigError("; ".join(f"{store.name}: {store.reason}" for store in damaged))
    return Discovery((*jobs, *damaged))


def _is_store(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ROOT_FILES)


def _find_regions(slide_name: str, path: Path, options: ReaderOptions) -> tuple[str, list[str]]:
    """Returns the table to read, and the regions (names of shapes) that it annotates."""
    places = path / "tables"
    names = sorted(inner.name for inner in places.iterdir() if _is_store(inner)) if places.is_dir() else []
    name = _choose_table(slide_name, path, names, options)
    with explain_damage(slide_name, places / name, "AnnData table"):
        group = _open_table(path, name)
        obs = read_frame(group, "obs")
        attributes = read_mapping(group, "uns/spatialdata_attrs") if "uns/spatialdata_attrs" in group else {}
    region_key, _ = _find_keys(slide_name, f"{path}: table {name!r}", attributes, obs)
    return name, sorted(obs[region_key].astype(str).unique())


def _open_table(path: Path, name: str) -> zarr.Group:
    """Open a table without spatialdata, which would read all of it."""
    import zarr

    return zarr.open_group(path / "tables" / name, mode="r")


def _choose_table(slide_name: str, path: Path, names: list[str], options: ReaderOptions) -> str:
    bins = f"square_{options.bin_um:03d}um"
    if options.table:
        fitting = [name for name in names if name == options.table]
    else:
        fitting = names if len(names) == 1 else [name for name in names if name.endswith(bins)]
    if len(fitting) == 1:
        return fitting[0]
    wanted = options.table or f"a single one, or one of Visium HD's bins (*{bins})"
    raise SlideError(slide_name, f"{path}: wanted the table {wanted}; it has {names}. Name one by the option `table`")


def _find_keys(slide_name: str, origin: str, attributes: Mapping[str, object], obs: pd.DataFrame) -> tuple[str, str]:
    """Returns region_key, instance_key: the columns of obs that name a spot's shapes and its row in them."""
    keys = ("region_key", "instance_key")
    if any(attributes.get(key) is None for key in keys):
        raise SlideError(slide_name, f"{origin} annotates no shapes: uns['spatialdata_attrs'] with {keys} is wanted")
    region_key, instance_key = (str(attributes[key]) for key in keys)
    missing = [column for column in (region_key, instance_key) if column not in obs]
    if missing:
        raise SlideError(slide_name, f"{origin} has no column {missing[0]!r}; obs has {list(obs)}")
    return region_key, instance_key


@dataclass(frozen=True)
class UnreadStore:
    """A store whose slides are not known, beside others that are read: it fails as a slide would. See SlideJob."""

    name: str
    reason: str

    def files(self) -> tuple[Path, ...]:
        raise SlideError(self.name, self.reason)

    def genes(self) -> GeneNames:
        raise SlideError(self.name, self.reason)

    def read(self) -> Slide:
        raise SlideError(self.name, self.reason)


@dataclass(frozen=True)
class SpatialDataSlide:
    """One region of a store; see SlideJob.

    Attributes:
        name: see `discover`.
        path: the store.
        table: name of the table.
        region: name of the shapes.
        labels: columns of obs, empty for those of LABEL_COLUMNS that exist.
    """

    name: str
    path: Path
    table: str
    region: str
    labels: tuple[str, ...] = ()

    def files(self) -> tuple[Path, ...]:
        """Returns the files that say what the elements are: an element that was written again has new ones."""
        store = self._read_store("images", "shapes")
        image = place_image(self.name, self.path, store, self.region, self._find_shapes(store)).image
        elements = (f"tables/{self.table}", f"shapes/{self.region}", image.member)
        folders = (self.path, *(self.path / element for element in elements))
        return tuple(folder / name for folder in folders for name in ROOT_FILES if (folder / name).is_file())

    def genes(self) -> GeneNames:
        with self._reading_table():
            group = _open_table(self.path, self.table)
            place = find_counts_on_disk(self.name, self._origin, group)
            return read_frame_genes(read_frame(group, "raw/var" if place == "raw.X" else "var"))

    def read(self) -> Slide:
        store = self._read_store("tables", "shapes", "images")
        table, shapes = store.tables[self.table], self._find_shapes(store)
        with self._reading_table():
            place = find_counts(self.name, self._origin, table)
            counts, var = take_counts(table, place)
            obs = as_frame(table.obs, "obs")
        placed = place_image(self.name, self.path, store, self.region, shapes)
        attributes = table.uns.get("spatialdata_attrs", {})
        region_key, instance_key = _find_keys(self.name, self._origin, attributes, obs)
        centres, spot_px = self._find_centres(shapes)
        own = (obs[region_key].astype(str) == self.region).to_numpy()
        at = centres.index.get_indexer(obs[instance_key])
        notes = [*describe_counts(place)]
        if (own & (at < 0)).any():
            notes.append(f"{int((own & (at < 0)).sum())} spots of the table have no shape and are left out")
        kept, tissue_notes = select_tissue(self.name, self._origin, obs, own & (at >= 0))
        if not kept.any():
            raise SlideError(
                self.name,
                f"{self._origin}: no spot of region {self.region!r} with a shape and in_tissue 1 (obs {instance_key!r} "
                f"begins {obs[instance_key].tolist()[:2]}, the shapes {centres.index.tolist()[:2]})",
            )
        obs, genes = as_frame(obs[kept], "obs"), read_frame_genes(var)
        barcodes = obs.index.to_numpy(dtype=str)
        array = identify_array(self.name, barcodes, self._origin)
        grid = read_frame_grid(self.name, self._origin, obs)
        return Slide(
            name=self.name,
            source="spatialdata",
            patient="",
            barcodes=barcodes,
            xy=placed.pixels(centres[["x", "y"]].to_numpy(np.float64)[at[kept]]) / placed.image.scale,
            counts=check_whole_counts(self.name, counts[kept], f"{self._origin}, {place}"),
            gene_ids=np.array(genes.ids, dtype=object),
            gene_symbols=np.array(genes.symbols, dtype=object),
            image=placed.image,
            pitch_um=array.pitch_um,
            spot_um=array.spot_um,
            lattice="none" if grid is None else array.lattice,
            grid=grid,
            labels=read_frame_labels(self.name, self._origin, obs, self.labels),
            technology=array.technology,
            spot_px=spot_px,
            notes=(*notes, *tissue_notes, *placed.notes),
        )

    @property
    def _origin(self) -> str:
        return f"{self.path}: table {self.table!r}"

    def _reading_table(self) -> AbstractContextManager[None]:
        return explain_damage(self.name, self.path / "tables" / self.table, "AnnData table")

    def _read_store(self, *elements: str) -> spatialdata.SpatialData:
        import spatialdata

        with explain_damage(self.name, self.path, "SpatialData"):
            return spatialdata.read_zarr(self.path, selection=elements)  # pyright: ignore[reportArgumentType]  # says tuple[str]

    def _find_shapes(self, store: spatialdata.SpatialData) -> geopandas.GeoDataFrame:
        if self.region not in store.shapes:
            raise SlideError(
                self.name, f"{self._origin} annotates {self.region!r}; the store's shapes are {sorted(store.shapes)}"
            )
        return store.shapes[self.region]

    def _find_centres(self, shapes: geopandas.GeoDataFrame) -> tuple[pd.DataFrame, float]:
        """Returns x and y of every shape, in the shapes' own units; and the diameter (side) of a spot in them."""
        import pandas as pd

        middle = shapes.geometry.centroid
        size = 2 * shapes["radius"] if "radius" in shapes else np.sqrt(shapes.geometry.area)
        if not shapes.index.is_unique:
            repeated = shapes.index[shapes.index.duplicated()][0]
            raise SlideError(self.name, f"{self.path}: shape {repeated!r} of {self.region!r} occurs more than once")
        return pd.DataFrame({"x": middle.x, "y": middle.y}, index=shapes.index), float(np.median(size))
