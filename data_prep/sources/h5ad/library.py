"""uns['spatial'][library] of an h5ad, as scanpy writes it: images, scale factors, the source image's path."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from data_prep.slide.slide import ImageKind, SlideError, SlideImage
from data_prep.sources.elements import list_keys, read_frame
from data_prep.sources.hdf5 import open_dataset, read_text
from data_prep.sources.reading import explain_damage
from data_prep.sources.space_ranger.files import find_spatial_files
from data_prep.sources.space_ranger.spatial_folder import ScaleFactors, find_tissue_image, read_scale_factors

if TYPE_CHECKING:
    import h5py

LIBRARY_COLUMN = "library_id"
"""The column of obs by which scanpy and squidpy tell the slides of one file apart."""

KINDS: tuple[ImageKind, ...] = ("hires", "lowres")
"""The images of uns['spatial'][library]['images'], the finer first."""


@dataclass(frozen=True)
class Libraries:
    """The slides of a file.

    Attributes:
        names: keys of uns['spatial'].
        column: whether obs has LIBRARY_COLUMN.
        used: its values.
    """

    names: tuple[str, ...]
    column: bool
    used: tuple[str, ...]


def read_libraries(slide_name: str, path: Path) -> Libraries:
    """Read the slides of a file from its header.

    Raises:
        SlideError: not an h5ad.
    """
    import h5py

    with explain_damage(slide_name, path, "h5ad"), h5py.File(path, "r") as file:
        names = tuple(list_keys(file, "uns/spatial"))
        obs = file["obs"]
        column = isinstance(obs, h5py.Group) and LIBRARY_COLUMN in obs
        used = read_frame(file, "obs")[LIBRARY_COLUMN].dropna().astype(str).unique() if column else ()
        return Libraries(names, column, tuple(sorted(used)))


@dataclass(frozen=True)
class LibraryPictures:
    """What a slide's pictures and their scales are read from.

    Attributes:
        slide_name: for messages.
        path: the h5ad.
        library: the key in uns['spatial'], '' where there is none.
        beside: Space Ranger's spatial/ folder beside the file, None where there is none or it may be another's.
    """

    slide_name: str
    path: Path
    library: str
    beside: Path | None

    def image(self) -> tuple[SlideImage, tuple[str, ...]]:
        """Returns the finest image there is: the source image where its path leads to a file, hires, lowres; and notes.

        Raises:
            SlideError: none, or one without its scale.
        """
        with explain_damage(self.slide_name, self.path, "h5ad"):
            import h5py

            with h5py.File(self.path, "r") as file:
                inside = self._find_inside(file)
        hires, lowres, factors = self._read_beside()
        full, notes = self._find_source_image()
        if full is not None:
            return full, notes
        for kind in KINDS:
            beside = find_tissue_image(
                self.slide_name, hires if kind == "hires" else None, lowres if kind == "lowres" else None, factors
            )
            found = beside or inside.get(kind)
            if found is not None:
                return found, (*notes, f"image: {kind}, {found.scale:.4g} of full resolution")
        raise SlideError(
            self.slide_name,
            f"has no image: neither {self.path.parent / 'spatial'} nor uns['spatial'][{self.library or '...'!r}]"
            f"['images'] of {self.path} has hires or lowres",
        )

    def spot_px(self) -> float | None:
        """Returns spot_diameter_fullres where it stands; see Slide.

        Raises:
            SlideError: it is no number above 0.
        """
        import h5py

        with explain_damage(self.slide_name, self.path, "h5ad"), h5py.File(self.path, "r") as file:
            own = self._read_factors(file).optional("spot_diameter_fullres")
        *_, factors = self._read_beside()
        return own if own is not None or factors is None else factors.optional("spot_diameter_fullres")

    def _read_factors(self, file: h5py.File) -> ScaleFactors:
        place = f"uns/spatial/{self.library}/scalefactors"
        keys = list_keys(file, place) if self.library else []
        values = {key: open_dataset(file, f"{place}/{key}")[()] for key in keys}
        return ScaleFactors(self.slide_name, f"{self.path}: /{place}", values)

    def _find_inside(self, file: h5py.File) -> dict[ImageKind, SlideImage]:
        """Returns kind -> image, for those that the file holds."""
        images, factors = {}, self._read_factors(file)
        for kind in KINDS:
            member = f"uns/spatial/{self.library}/images/{kind}"
            if self.library and member in file:
                images[kind] = SlideImage(self.path, kind, factors.require(f"tissue_{kind}_scalef"), member)
        return images

    def _read_beside(self) -> tuple[Path | None, Path | None, ScaleFactors | None]:
        if self.beside is None:
            return None, None, None
        files = find_spatial_files(self.slide_name, self.beside)
        factors = files.one("scale_factors")
        read = None if factors is None else read_scale_factors(factors, self.slide_name)
        return files.one("hires"), files.one("lowres"), read

    def _find_source_image(self) -> tuple[SlideImage | None, tuple[str, ...]]:
        """Find metadata['source_image_path'], absolute or beside the file: scanpy keeps the path, not the pixels."""
        import h5py

        with explain_damage(self.slide_name, self.path, "h5ad"), h5py.File(self.path, "r") as file:
            place = f"uns/spatial/{self.library}/metadata/source_image_path"
            text = read_text(file, place) if self.library and place in file else ""
        if not text:
            return None, ()
        for path in (self.path.parent / text, self.path.parent / Path(text).name):
            if path.is_file():
                return SlideImage(path, "fullres"), ()
        return None, (f"the full-resolution image {text} is not here",)
