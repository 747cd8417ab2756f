"""What cached features depend on, by the names of the configuration, and how two lists of it differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stalign_pl.batch.features import Fingerprint
from stalign_pl.data.niches.config import NicheConfig
from stalign_pl.data.pictures.augmentation import Augmentation
from stalign_pl.data.pictures.resize import PictureForm
from stalign_pl.data.shards.shard_set import SlideShard
from stalign_pl.data.slide_tables import SlideTables
from stalign_pl.files import content_sha256

FEATURES_FORMAT = 2

Settings = Mapping[str, Any]
"""JSON values by name; lists of numbers are compared within TOLERANCE, as two machines round otherwise."""

TOLERANCE = 1e-4


@dataclass(frozen=True)
class FeatureSettings:
    """What decides the features of a run's slides.

    Attributes:
        encoders: stream -> its encoder.
        tables: colours and scales of the slides.
        pictures: "spot", "niche" -> how the pictures of that scale are shown.
        genes: digest of the vocabulary.
        niche: its members.
        augmentation: of augmented views.
    """

    encoders: Mapping[str, Fingerprint]
    tables: SlideTables
    pictures: Mapping[str, PictureForm]
    genes: str
    niche: NicheConfig
    augmentation: Augmentation

    def of(self, stream: str, slide: SlideShard, views: int) -> Settings:
        """Of one stream and slide, with as many augmented views."""
        encoder = self.encoders[stream]
        settings = {
            "format version": FEATURES_FORMAT,
            "encoder's architecture": encoder.architecture[:16],
            "encoder's weights": encoder.weights[:16],
            "shards' files": _files(slide),
        }
        scale, kind = stream.split("_")
        settings |= self._picture(scale, slide) if kind == "image" else self._genes(slide)
        if scale == "niche":
            settings |= self._niche(kind)
        if views:
            settings |= {f"data.augmentation.{name}": value for name, value in self._augmentation(kind).items()}
        return settings

    def augments(self, stream: str) -> bool:
        """Whether training varies what the stream's encoder looks at."""
        return any(self._augmentation(stream.split("_")[1]).values())

    def _picture(self, scale: str, slide: SlideShard) -> dict[str, Any]:
        form = self.pictures[scale]
        return {
            f"data.{scale}_size": form.size,
            f"data.{scale}_interpolation": form.interpolation,
            "colours by data.stain (the slide's own, and the mean of the training slides)": _numbers(
                torch.stack((self.tables.colour[slide.table], self.tables.common_colour))
            ),
        }

    def _genes(self, slide: SlideShard) -> dict[str, Any]:
        return {"genes": self.genes[:16], "genes' target sum": [float(self.tables.target[slide.table])]}

    def _niche(self, kind: str) -> dict[str, Any]:
        niche = asdict(self.niche)
        if isinstance(self.niche.weights, tuple):
            niche["weights"] = list(self.niche.weights)  # as a file's JSON has them
        if kind == "gene":
            names = ("k", "rings", "leave_target_out", "weights") + ("even_depth",) * self.niche.even_depth
        else:
            names = ("image",) if self.niche.image == "view" else ("image", "k", "rings")
        return {f"data.niche.{name}": niche[name] for name in names}

    def _augmentation(self, kind: str) -> dict[str, Any]:
        options = asdict(self.augmentation)
        options.pop("shuffle_pairs")  # it exchanges rows of a batch, cached or not
        hidden = options.pop("mask_genes")
        return options if kind == "image" else {"mask_genes": hidden}


def differences(made: Settings, wanted: Settings) -> list[str]:
    """What differs, in words; empty where the features are those wanted."""
    return [
        f"{name} was {_shown(made.get(name, 'not asked for'))}, is {_shown(wanted.get(name, 'not asked for'))}"
        for name in sorted(made.keys() | wanted.keys())
        if not _same(made.get(name), wanted.get(name))
    ]


def _shown(value: Any) -> str:
    """Without digits that do not count."""
    return f"[{', '.join(f'{number:.4g}' for number in value)}]" if _is_numbers(value) else str(value)


def _is_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(number, float) for number in value)


def _same(made: Any, wanted: Any) -> bool:
    if isinstance(made, list) and isinstance(wanted, list):
        return len(made) == len(wanted) and bool(np.allclose(made, wanted, rtol=TOLERANCE, atol=TOLERANCE))
    return made == wanted


def _files(slide: SlideShard) -> str:
    """Hash of the checksums of a slide's files, and of its gene panel's name, which is one."""
    sums = {name: file["sha256"] for name, file in slide.record.files.items()}
    return content_sha256({"files": sums, "panel": slide.record.panel})[:16]


def _numbers(tensor: Tensor) -> list[float]:
    return [float(value) for value in tensor.flatten()]
