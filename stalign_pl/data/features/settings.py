"""What cached features depend on, by the names of the configuration, and how two lists of it differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeGuard

import numpy as np
import torch
from torch import Tensor

from stalign_pl.batch.features import Fingerprint
from stalign_pl.data.niches.config import NicheConfig
from stalign_pl.data.pictures.augmentation import Augmentation
from stalign_pl.data.pictures.resize import PictureForm
from stalign_pl.data.shards.shard_set import SlideShard
from stalign_pl.data.slide_tables import SlideTables
from stalign_pl.files import hash_json

FEATURES_FORMAT = 2

Settings = Mapping[str, Any]
"""JSON values by name. Lists of numbers are compared within TOLERANCE, because machines differ in rounding."""

TOLERANCE = 1e-4


@dataclass(frozen=True)
class FeatureSettings:
    """All that the features of a run's slides depend on.

    Attributes:
        encoders: stream -> its encoder.
        tables: colours and scales of the slides.
        pictures: "spot", "niche" -> size and resizing of that scale's pictures.
        genes: digest of the vocabulary.
        niche: which neighbours make a niche.
        augmentation: of augmented views.
    """

    encoders: Mapping[str, Fingerprint]
    tables: SlideTables
    pictures: Mapping[str, PictureForm]
    genes: str
    niche: NicheConfig
    augmentation: Augmentation

    def of(self, stream: str, slide: SlideShard, views: int) -> Settings:
        """The settings of one stream's features of one slide.

        Args:
            stream: its name.
            slide: any of the run's.
            views: number of augmented views.
        """
        encoder = self.encoders[stream]
        settings = {
            "format version": FEATURES_FORMAT,
            "encoder's architecture": encoder.architecture[:16],
            "encoder's weights": encoder.weights[:16],
            "shards' files": _hash_files(slide),
        }
        scale, kind = stream.split("_")
        settings |= self._picture_settings(scale, slide) if kind == "image" else self._gene_settings(slide)
        if scale == "niche":
            settings |= self._niche_settings(kind)
        if views:
            varied = self._augmentation_options(kind)
            settings |= {f"data.augmentation.{name}": value for name, value in varied.items()}
        return settings

    def augments(self, stream: str) -> bool:
        """Whether training augments the input of the stream's encoder."""
        return any(self._augmentation_options(stream.split("_")[1]).values())

    def _picture_settings(self, scale: str, slide: SlideShard) -> dict[str, Any]:
        form = self.pictures[scale]
        return {
            f"data.{scale}_size": form.size,
            f"data.{scale}_interpolation": form.interpolation,
            "colours by data.stain (the slide's own, and the mean of the training slides)": _to_list(
                torch.stack((self.tables.colour[slide.table], self.tables.common_colour))
            ),
        }

    def _gene_settings(self, slide: SlideShard) -> dict[str, Any]:
        return {"genes": self.genes[:16], "genes' target sum": [float(self.tables.target[slide.table])]}

    def _niche_settings(self, kind: str) -> dict[str, Any]:
        niche = asdict(self.niche)
        if isinstance(self.niche.weights, tuple):
            niche["weights"] = list(self.niche.weights)  # as a file's JSON has them
        if kind == "gene":
            names = ("k", "rings", "leave_target_out", "weights") + ("even_depth",) * self.niche.even_depth
        else:
            names = ("image",) if self.niche.image == "view" else ("image", "k", "rings")
        return {f"data.niche.{name}": niche[name] for name in names}

    def _augmentation_options(self, kind: str) -> dict[str, Any]:
        options = asdict(self.augmentation)
        options.pop("shuffle_pairs")  # it exchanges rows of a batch, cached or not
        hidden = options.pop("mask_genes")
        return options if kind == "image" else {"mask_genes": hidden}


def describe_differences(made: Settings, wanted: Settings) -> list[str]:
    """Describe each setting that differs; empty where the features are the wanted ones.

    Args:
        made: settings that features were made with.
        wanted: settings that they should have been made with.
    """
    return [
        f"{name} was {_show(made.get(name, 'not asked for'))}, is {_show(wanted.get(name, 'not asked for'))}"
        for name in sorted(made.keys() | wanted.keys())
        if not _agree(made.get(name), wanted.get(name))
    ]


def _show(value: object) -> str:
    """A value as text, numbers to four digits."""
    return f"[{', '.join(f'{number:.4g}' for number in value)}]" if _is_numbers(value) else str(value)


def _is_numbers(value: object) -> TypeGuard[list[float]]:
    return isinstance(value, list) and all(isinstance(number, float) for number in value)


def _agree(made: object, wanted: object) -> bool:
    if isinstance(made, list) and isinstance(wanted, list):
        return len(made) == len(wanted) and bool(np.allclose(made, wanted, rtol=TOLERANCE, atol=TOLERANCE))
    return made == wanted


def _hash_files(slide: SlideShard) -> str:
    """Hash the checksums of a slide's files, and its gene panel's name, which is a hash, too."""
    sums = {name: file["sha256"] for name, file in slide.record.files.items()}
    return hash_json({"files": sums, "panel": slide.record.panel})[:16]


def _to_list(tensor: Tensor) -> list[float]:
    return [float(value) for value in tensor.flatten()]
