"""A slide's spots as WebDataset samples: the payload of every member, in the form that shard_format states."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from functools import cached_property
from typing import BinaryIO

import numpy as np
from scipy import sparse

from data_prep.images import Pixels
from data_prep.shards.crops import (
    CropSize,
    compute_crop_size,
    compute_niche_boxes,
    cut_crop,
    encode,
    locate_corner,
    measure_border_colour,
    measure_outside_share,
)
from data_prep.shards.niches import Neighbors
from data_prep.shards.settings import CropSettings
from data_prep.slide.slide import Slide
from stalign_pl.shard_format import BOX_MEMBERS

PAIRS_AT_ONCE = 1 << 20
"""Pairs are written to counts.npy this many at a time."""


@dataclass(frozen=True)
class SlideSamples:
    """All that a slide's samples are made from.

    Attributes:
        pixels: the slide's image, open.
        counts: [N, n] CSR over the measured genes, genes ascending within a spot.
        genes: uint16 or uint32 [n], their gene indices; the type holds every count, too.
        spot: size of the spot crops.
        niche: size of the niche crops.
    """

    slide: Slide
    pixels: Pixels
    counts: sparse.csr_matrix
    genes: np.ndarray
    neighbors: Neighbors
    spot: CropSize
    niche: CropSize

    @property
    def suffixes(self) -> dict[str, str]:
        """Member -> the end of its name in the tar."""
        return {
            "spot": f"spot.{self.spot.format}",
            "niche": f"niche.{self.niche.format}",
            "genes": "genes.npy",
            "neighbors": "neighbors.npy",
            "meta": "meta.json",
        }

    @cached_property
    def xy_image(self) -> np.ndarray:
        """float64 [N, 2], spot centres in image pixels."""
        return self.slide.xy * self.slide.image.scale

    @cached_property
    def outside(self) -> np.ndarray:
        """float64 [N]: the share of each niche crop that lies outside the image."""
        return measure_outside_share(self.xy_image, self.niche.side_px, self.pixels.width, self.pixels.height)

    @cached_property
    def _fill(self) -> np.ndarray:
        return measure_border_colour(self.pixels)

    def pairs(self, start: int, stop: int) -> np.ndarray:
        """Make [2, stop - start], gene index and count, of the type of `genes`, of counts number start .. stop - 1."""
        pairs = np.empty((2, stop - start), self.genes.dtype)
        np.take(self.genes, self.counts.indices[start:stop], out=pairs[0])
        pairs[1] = self.counts.data[start:stop]
        return pairs

    def write_pairs(self, stream: BinaryIO) -> None:
        """Write all pairs, spot after spot, as a .npy file: first the row of genes, then that of counts."""
        size = self.counts.nnz
        header = {"descr": self.genes.dtype.str, "fortran_order": False, "shape": (2, size)}
        np.lib.format.write_array_header_1_0(stream, header)
        for row in range(2):
            for start in range(0, size, PAIRS_AT_ONCE):
                stream.write(self.pairs(start, min(start + PAIRS_AT_ONCE, size))[row].tobytes())

    def pictures(self, spot: int) -> tuple[bytes, bytes]:
        """Cut and encode the spot and niche crops of a spot."""
        spot_crop = cut_crop(self.pixels, self.xy_image[spot], self.spot, self._fill)
        niche_crop = cut_crop(self.pixels, self.xy_image[spot], self.niche, self._fill)
        return encode(spot_crop, self.spot.format), encode(niche_crop, self.niche.format)

    def tables(self, spot: int) -> dict[str, bytes]:
        """Make member -> payload of all but the pictures of a spot."""
        ends = self.neighbors.ring_ends[spot]
        members = self.neighbors.indices[spot, : ends[-1]]
        near = self.xy_image[np.concatenate([[spot], members[:BOX_MEMBERS]])]
        boxes = compute_niche_boxes(near, locate_corner(self.xy_image[spot], self.niche.side_px), self.spot, self.niche)
        meta = {
            "slide": self.slide.name,
            "barcode": str(self.slide.barcodes[spot]),
            "spot": spot,
            "xy": self.slide.xy[spot].tolist(),
            "rings": ends.tolist(),
            "boxes": boxes.tolist(),
            "outside": round(float(self.outside[spot]), 4),
        }
        return {
            "genes": encode_npy(self.pairs(*self.counts.indptr[spot : spot + 2].tolist())),
            "neighbors": encode_npy(members),
            "meta": json.dumps(meta, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode(),
        }


def gather_samples(
    slide: Slide,
    pixels: Pixels,
    counts: sparse.csr_matrix,
    measured: np.ndarray,
    neighbors: Neighbors,
    crops: CropSettings,
) -> SlideSamples:
    """Put a slide's samples together.

    Args:
        counts: [N, n] CSR over the measured genes, indices sorted.
        measured: int [n], their gene indices in the set's table, sorted.
    """
    seen = int(measured[counts.indices.max()]) if counts.nnz else 0
    largest = max(seen, int(counts.data.max(initial=0)))
    dtype = np.uint16 if largest <= np.iinfo(np.uint16).max else np.uint32
    image_um_per_px = slide.um_per_px / slide.image.scale
    return SlideSamples(
        slide=slide,
        pixels=pixels,
        counts=counts,
        genes=np.asarray(measured).astype(dtype),
        neighbors=neighbors,
        spot=compute_crop_size(crops.spot_scale * slide.spot_um, image_um_per_px),
        niche=compute_crop_size(crops.niche_pitches * slide.pitch_um, image_um_per_px),
    )


def encode_npy(array: np.ndarray) -> bytes:
    """Serialise an array as the bytes of a .npy file (C order, no pickle)."""
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
    return stream.getvalue()
