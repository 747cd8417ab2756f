"""A slide's spots as WebDataset samples: the payload of every member, in the form that shard_format.py states."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from data_prep.crops import CropSize, border_colour, corner, crop, crop_size, encode, niche_boxes
from data_prep.niches import Neighbors
from data_prep.settings import CropSettings
from data_prep.slide import Slide
from stalign_pl.shard_format import BOX_MEMBERS


@dataclass(frozen=True)
class SlideSamples:
    """All that a slide's samples are made from.

    Attributes:
        image: uint8 [H, W, 3], the slide's image.
        pairs: uint16 or uint32 [2, nnz]: gene index; count; spots in order, genes ascending within a spot.
        bounds: int64 [N + 1], where each spot's pairs begin.
        spot, niche: crop sizes.
    """

    slide: Slide
    image: np.ndarray
    pairs: np.ndarray
    bounds: np.ndarray
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

    def payloads(self, spots: np.ndarray) -> Iterator[dict[str, bytes]]:
        """Member -> payload, for each of `spots` in turn."""
        fill = border_colour(self.image)
        xy_image = self.slide.xy * self.slide.image.scale
        for spot in spots:
            yield self._payload(int(spot), xy_image, fill)

    def _payload(self, spot: int, xy_image: np.ndarray, fill: np.ndarray) -> dict[str, bytes]:
        ends = self.neighbors.ring_ends[spot]
        members = self.neighbors.indices[spot, : ends[-1]]
        near = xy_image[np.concatenate([[spot], members[:BOX_MEMBERS]])]
        spot_image, _ = crop(self.image, xy_image[spot], self.spot, fill)
        niche_image, outside = crop(self.image, xy_image[spot], self.niche, fill)
        boxes = niche_boxes(near, corner(xy_image[spot], self.niche.side_px), self.spot, self.niche)
        meta = {
            "slide": self.slide.name,
            "barcode": str(self.slide.barcodes[spot]),
            "spot": spot,
            "xy": self.slide.xy[spot].tolist(),
            "rings": ends.tolist(),
            "boxes": boxes.tolist(),
            "outside": round(outside, 4),
        }
        return {
            "spot": encode(spot_image, self.spot.format),
            "niche": encode(niche_image, self.niche.format),
            "genes": npy_bytes(self.pairs[:, self.bounds[spot] : self.bounds[spot + 1]]),
            "neighbors": npy_bytes(members),
            "meta": json.dumps(meta, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode(),
        }


def slide_samples(
    slide: Slide,
    image: np.ndarray,
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
    genes = np.asarray(measured)[counts.indices]
    largest = max(int(genes.max(initial=0)), int(counts.data.max(initial=0)))
    dtype = np.uint16 if largest <= np.iinfo(np.uint16).max else np.uint32
    image_um_per_px = slide.um_per_px / slide.image.scale
    return SlideSamples(
        slide=slide,
        image=image,
        pairs=np.stack([genes, counts.data]).astype(dtype),
        bounds=counts.indptr.astype(np.int64),
        neighbors=neighbors,
        spot=crop_size(crops.spot_scale * slide.spot_um, image_um_per_px),
        niche=crop_size(crops.niche_pitches * slide.pitch_um, image_um_per_px),
    )


def npy_bytes(array: np.ndarray) -> bytes:
    """An array as the bytes of a .npy file (C order, no pickle)."""
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
    return stream.getvalue()
