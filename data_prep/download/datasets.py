"""The public data sets that can be fetched: where they lie, and which file of their repository is what of which slide.

Layouts: the repositories' file lists and their authors' READMEs (STimage-1K4M, HEST-1k).
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class FileKind:
    """One kind of file of a slide.

    Attributes:
        path: matches the whole path in the repository, with a group `slide`.
        image: fetched with --images alone.
        every_slide: a slide without it cannot be built.
    """

    name: str
    path: re.Pattern[str]
    image: bool = False
    every_slide: bool = True


@dataclass(frozen=True)
class PublicDataset:
    """A data set on the Hub.

    Attributes:
        source: the reader's name in a build and in a plan's slides.csv.
        repo: of type dataset.
        catalogue: matches the whole path of a file that tells of all slides.
        kinds: of a slide's files; the first decides which slides there are.
    """

    name: str
    source: str
    repo: str
    catalogue: re.Pattern[str]
    kinds: tuple[FileKind, ...]


DATASETS = {
    dataset.name: dataset
    for dataset in (
        PublicDataset(
            name="stimage1k4m",
            source="stimage",
            repo="jiawennnn/STimage-1K4M",
            catalogue=re.compile(r"meta/.+"),
            kinds=(  # the first folder is the technology: ST, Visium or VisiumHD
                FileKind("coordinates", re.compile(r"[^/]+/coord/(?P<slide>[^/]+)_coord\.csv")),
                FileKind("counts", re.compile(r"[^/]+/gene_exp/(?P<slide>[^/]+)_count\.csv")),
                FileKind("image", re.compile(r"[^/]+/image/(?P<slide>[^/]+)\.png"), image=True),
                FileKind("annotation", re.compile(r"annotation/(?P<slide>[^/]+)_anno\.csv"), every_slide=False),
            ),
        ),
        PublicDataset(
            name="hest",
            source="hest",
            repo="MahmoodLab/hest",
            catalogue=re.compile(r"HEST_v[^/]*\.csv"),
            kinds=(
                FileKind("counts", re.compile(r"st/(?P<slide>[^/]+)\.h5ad")),
                FileKind("image", re.compile(r"wsis/(?P<slide>[^/]+)\.tif"), image=True),
                FileKind("metadata", re.compile(r"metadata/(?P<slide>[^/]+)\.json")),
            ),
        ),
    )
}
