"""A slide's picture: its image with all spots at their true size, some niche crops, and a scale bar in micrometres."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from data_prep.sources.hdf5 import open_dataset, open_group
from stalign_pl.errors import ShardError
from stalign_pl.shard_format import SlideRecord

if TYPE_CHECKING:
    pass

SPOT, TARGET, NEIGHBOUR, NICHE = (0, 190, 70, 255), (220, 0, 0, 255), (255, 140, 0, 255), (0, 60, 255, 255)
"""RGBA. Green, red, orange and blue tell themselves from the pinks and violets of H&E."""

SUPERSAMPLE = 3
"""Lines are drawn this many times larger and then reduced: a Visium spot is 4 px wide here."""

QUALITIES = (88, 80, 70, 60, 50, 40, 30)


@dataclass(frozen=True)
class ThumbnailSize:
    """Longest side in px, and the most bytes that the JPEG may have."""

    side_px: int
    max_bytes: int


LARGE = ThumbnailSize(900, 250_000)
SMALL = ThumbnailSize(360, 25_000)
"""For a set of many slides: 531 of them make a page of less than 20 MB."""


@dataclass(frozen=True)
class Thumbnail:
    """A JPEG and its size in px."""

    jpeg: bytes
    width: int
    height: int

    @property
    def data_uri(self) -> str:
        return f"data:image/jpeg;base64,{base64.b64encode(self.jpeg).decode()}"


@dataclass(frozen=True)
class Overlay:
    """What is drawn on a slide's image; all in px of the drawn image.

    Attributes:
        xy: float64 [N, 2], spot centres.
        spot_px: the spots' diameter.
        niche_px: the side of the niche crops.
        boxed: indices of the spots whose niche crop is drawn; the first one's neighbours are filled.
        neighbours: indices of the first one's first ring.
        um_per_px: of the drawn image.
    """

    xy: np.ndarray
    spot_px: float
    niche_px: float
    boxed: tuple[int, ...]
    neighbours: tuple[int, ...]
    um_per_px: float


def draw_thumbnail(h5ad: Path, record: SlideRecord, size: ThumbnailSize) -> Thumbnail:
    """Draw a slide from its h5ad (image, positions, graph; the counts are not read). Same file, same bytes.

    Raises:
        ShardError: the file is missing or lacks one of these.
    """
    image, overlay = _read_overlay(h5ad, record, size.side_px)
    return _encode_within(draw(image, overlay), size)


def draw(image: Image.Image, overlay: Overlay) -> Image.Image:
    """Draw spots, niche crops, neighbours and a scale bar on an image."""
    scale = SUPERSAMPLE
    layer = Image.new("RGBA", (image.width * scale, image.height * scale), (0, 0, 0, 0))
    pen = ImageDraw.Draw(layer)
    line = max(1, round(min(2.0, max(0.8, overlay.spot_px / 7)) * scale))
    radius = overlay.spot_px / 2 * scale
    filled = {overlay.boxed[0]: TARGET} | dict.fromkeys(overlay.neighbours, NEIGHBOUR)
    for spot, (x, y) in enumerate(overlay.xy * scale):
        box = (x - radius, y - radius, x + radius, y + radius)
        if spot in filled:
            pen.ellipse(box, fill=filled[spot])
        else:
            pen.ellipse(box, outline=SPOT, width=line)
    half = overlay.niche_px / 2 * scale
    for spot in overlay.boxed:
        x, y = overlay.xy[spot] * scale
        pen.rectangle((x - half, y - half, x + half, y + half), outline=NICHE, width=round(1.3 * scale))
    _draw_scale_bar(pen, layer.size, overlay.um_per_px / scale)
    layer = layer.resize(image.size, Image.Resampling.BOX)
    return Image.alpha_composite(image.convert("RGBA"), layer).convert("RGB")


def choose_bar_length(width_um: float) -> int:
    """Find the longest of 1, 2, 5, 10, ... um that is at most a quarter of the width."""
    lengths = [step * 10**power for power in range(7) for step in (1, 2, 5)]
    return max((length for length in lengths if length <= width_um / 4), default=1)


def choose_spots(xy: np.ndarray) -> tuple[int, ...]:
    """Choose the spot nearest to the middle, and those nearest to the upper left and the lower right corner."""
    middle = np.linalg.norm(xy - (xy.min(axis=0) + xy.max(axis=0)) / 2, axis=1).argmin()
    along = xy.sum(axis=1)
    return tuple(dict.fromkeys(int(spot) for spot in (middle, along.argmin(), along.argmax())))


def _draw_scale_bar(pen: ImageDraw.ImageDraw, size: tuple[int, int], um_per_px: float) -> None:
    width, height = size
    length = choose_bar_length(width * um_per_px)
    text = f"{length // 1000} mm" if length >= 1000 else f"{length} µm"
    unit = max(width, height) / 60
    font = ImageFont.load_default(size=unit * 1.5)
    text_width = pen.textlength(text, font=font)
    bar = length / um_per_px
    wide = max(bar, text_width)
    x, y = unit, height - unit
    pen.rectangle((x - unit / 2, y - unit * 2.9, x + wide + unit / 2, y + unit / 2), fill=(255, 255, 255, 225))
    pen.rectangle((x, y - unit / 2, x + bar, y), fill=(0, 0, 0, 255))
    pen.text((x, y - unit * 2.6), text, font=font, fill=(0, 0, 0, 255))


def _read_overlay(path: Path, record: SlideRecord, side_px: int) -> tuple[Image.Image, Overlay]:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            library = f"uns/spatial/{next(iter(open_group(file, 'uns/spatial')))}"
            pixels = open_dataset(file, f"{library}/images/lowres")[()]
            scale = float(open_dataset(file, f"{library}/scalefactors/tissue_lowres_scalef")[()])
            spot_px = float(open_dataset(file, f"{library}/scalefactors/spot_diameter_fullres")[()])
            xy = open_dataset(file, "obsm/spatial")[()]
            boxed = choose_spots(xy)
            low, high = open_dataset(file, "obsp/spatial_connectivities/indptr")[boxed[0] : boxed[0] + 2]
            spots = open_dataset(file, "obsp/spatial_connectivities/indices")[low:high]
            neighbours = tuple(int(spot) for spot in spots)
    except (OSError, KeyError, ValueError, StopIteration) as error:
        raise ShardError(f"{path} cannot be drawn: {error}") from error
    height, width = pixels.shape[:2]
    zoom = side_px / max(height, width)
    image = Image.fromarray(np.ascontiguousarray(pixels[:, :, :3], np.uint8)).resize(
        (max(1, round(width * zoom)), max(1, round(height * zoom))), Image.Resampling.BICUBIC
    )
    scale *= zoom
    um_per_px = record.um_per_px / scale
    return image, Overlay(xy * scale, spot_px * scale, record.niche_um / um_per_px, boxed, neighbours, um_per_px)


def _encode_within(image: Image.Image, size: ThumbnailSize) -> Thumbnail:
    """Encode the best JPEG of at most `max_bytes`: lower quality first, then smaller."""
    import simplejpeg

    while True:
        pixels = np.asarray(image)
        for quality in QUALITIES:
            jpeg = simplejpeg.encode_jpeg(pixels, quality=quality, colorspace="RGB", colorsubsampling="444")
            if len(jpeg) <= size.max_bytes:
                return Thumbnail(jpeg, image.width, image.height)
        image = image.resize((max(1, image.width * 4 // 5), max(1, image.height * 4 // 5)), Image.Resampling.BICUBIC)
