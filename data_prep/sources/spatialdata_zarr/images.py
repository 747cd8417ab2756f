"""Which image of a SpatialData store lies under a slide's spots, and how their coordinates lead to its pixels."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data_prep.slide.slide import ImageKind, SlideError, SlideImage

if TYPE_CHECKING:
    import geopandas
    import spatialdata
    from spatialdata.models import SpatialElement
    from spatialdata.transformations import BaseTransformation

KINDS: tuple[ImageKind, ...] = ("hires", "lowres")
"""Images that are reduced ones, by a word in their names."""

NAME_END = re.compile(r"_(full|hires|lowres|cytassist)_image$")
"""How spatialdata-io names the images of Space Ranger's run; before it stands the run's name."""

SHEAR = 0.01
"""Tolerated difference of the scales in two directions: crops are squares of the image."""


@dataclass(frozen=True)
class PlacedImage:
    """An image under a slide's spots.

    Attributes:
        image: the image.
        to_pixels: [2, 3], the affine map from the shapes' coordinates (x, y) to its pixels.
        notes: what a report should say.
    """

    image: SlideImage
    to_pixels: np.ndarray
    notes: tuple[str, ...]

    def pixels(self, xy: np.ndarray) -> np.ndarray:
        """Map [N, 2] positions in the shapes' units to [N, 2] in pixels of the image."""
        return xy @ self.to_pixels[:, :2].T + self.to_pixels[:, 2]


def place_image(
    slide_name: str, path: Path, store: spatialdata.SpatialData, region: str, shapes: geopandas.GeoDataFrame
) -> PlacedImage:
    """Find the finest H&E image that shares a coordinate system with the shapes.

    Where images carry names of runs (spatialdata-io), only those of the region's run are asked.

    Raises:
        SlideError: no image, several equally fine, or a map that is not a plain scaling, shift, turn or mirroring.
    """
    named = {name: NAME_END.sub("", name) for name in store.images if NAME_END.search(name)}
    own = [name for name, run in named.items() if region == run or region.startswith(f"{run}_")]
    candidates = sorted(name for name in (own or store.images) if "cytassist" not in name.lower())
    maps = {name: _find_map(store.images[name], shapes) for name in candidates}
    found = {name: affine for name, affine in maps.items() if affine is not None}
    if not found:
        raise SlideError(
            slide_name,
            f"{path}: no image shares a coordinate system with the shapes {region!r}; images: {sorted(store.images)}",
        )
    scales = {name: float(np.sqrt(abs(np.linalg.det(affine[:, :2])))) for name, affine in found.items()}
    finest = max(scales.values())
    best = [name for name in found if np.isclose(scales[name], finest, rtol=1e-6)]
    if len(best) > 1:
        raise SlideError(slide_name, f"{path}: several images are equally fine, keep one: {best}")
    name = best[0]
    strain = np.linalg.svd(found[name][:, :2], compute_uv=False)
    if strain[0] > strain[1] * (1 + SHEAR):
        raise SlideError(
            slide_name,
            f"{path}: image {name!r} is sheared or stretched against the shapes (scales {strain[0]:.4g} and "
            f"{strain[1]:.4g}); crops need one scale",
        )
    kind = _kind_of(name)
    notes = () if kind == "fullres" else (f"image: {name}, {finest:.4g} of full resolution; no full-resolution image",)
    return PlacedImage(SlideImage(path, kind, finest, f"images/{name}"), found[name], notes)


def _kind_of(name: str) -> ImageKind:
    for kind in KINDS:
        if kind in name.lower():
            return kind
    return "fullres"


def _find_map(image: SpatialElement, shapes: geopandas.GeoDataFrame) -> np.ndarray | None:
    """Returns [2, 3]: shapes -> pixels through the first coordinate system that both have; None without one."""
    of_image, of_shapes = _transformations_of(image), _transformations_of(shapes)
    for system in sorted(of_image.keys() & of_shapes.keys()):
        axes = ("x", "y")
        to_system = of_image[system].to_affine_matrix(axes, axes)
        return (np.linalg.inv(to_system) @ of_shapes[system].to_affine_matrix(axes, axes))[:2]
    return None


def _transformations_of(element: SpatialElement) -> dict[str, BaseTransformation]:
    """Returns coordinate system -> the map from the element into it."""
    from spatialdata.transformations import get_transformation

    found = get_transformation(element, get_all=True)
    return found if isinstance(found, dict) else {}
