"""Table of clusters of a shard set: the cluster of each spot within its slide. The paired loss reads it.

One JSON file, the same bytes for the same shards and seed on one machine:

    format_version, clusters, seed      settings: C clusters a slide, by `cluster_spots`
    set                                 digest of the shard set that it was made from
    slides          name -> {counts, cluster}: hash of the slide's counts file; a digit a spot, in spot order
    sha256          of all the above
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stalign_pl.data.shards.shard_set import SlideShard
from stalign_pl.draws import Draws, draw_uniform
from stalign_pl.errors import ConfigError, join_names
from stalign_pl.files import hash_json, write_json

CLUSTERS_FORMAT = 1

CLUSTERS = 6
"""Clusters of a slide in the authors' code."""

MOST_CLUSTERS = 10
"""A cluster is one digit in the file."""

STREAM = 2
"""Of `draws.draw_uniform`; `augmentation` has 1."""


@dataclass(frozen=True)
class ClusterTable:
    """The table's content; the attributes are the file's keys.

    Attributes:
        clusters: C, 2 to 10.
        seed: of the clustering.
        set: digest of the shard set.
        slides: slide name -> (hash of its counts file, its spots' clusters as digits).
    """

    clusters: int
    seed: int
    set: str
    slides: Mapping[str, tuple[str, str]]

    def content(self) -> dict[str, Any]:
        """The file's keys and values without its hash."""
        slides = {name: {"counts": counts, "cluster": cluster} for name, (counts, cluster) in self.slides.items()}
        return {
            "format_version": CLUSTERS_FORMAT,
            "clusters": self.clusters,
            "seed": self.seed,
            "set": self.set,
            "slides": slides,
        }

    def sha256(self) -> str:
        """Hash the content."""
        return hash_json(self.content())

    def write(self, path: Path) -> None:
        """Write the file; its folder is made."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {**self.content(), "sha256": self.sha256()})

    def of(self, slide: SlideShard) -> np.ndarray:
        """int8 [N]: the clusters of a slide's spots."""
        return np.frombuffer(self.slides[slide.record.name][1].encode(), np.int8) - ord("0")

    def refuse_others(self, slides: Iterable[SlideShard], path: Path, folder: Path) -> None:
        """Check that the table was made from these slides.

        Args:
            slides: those that must be in the table.
            path: of the table, for messages.
            folder: of the shard set, for messages.

        Raises:
            ConfigError: it was not; lists the slides that it lacks, and those whose counts have changed since.
        """
        held = {slide.record.name: (counts_hash(slide), len(slide)) for slide in slides}
        missing = sorted(held.keys() - self.slides.keys())
        known = {name: (counts, len(cluster)) for name, (counts, cluster) in self.slides.items()}
        stale = sorted(name for name in held.keys() & known.keys() if held[name] != known[name])
        differences = [
            f"{what}: {join_names(names)}"
            for what, names in (("missing in it", missing), ("built again since", stale))
            if names
        ]
        if differences:
            raise ConfigError(
                f"data.clusters: {path} (of the set {self.set[:12]}) does not belong to {folder}: "
                f"{'; '.join(differences)}. Make it again: python -m stalign_pl clusters {folder} --out {path}"
            )


def counts_hash(slide: SlideShard) -> str:
    """SHA-256 of a slide's counts file, as the manifest has it."""
    return slide.record.files[slide.record.counts]["sha256"]


def read_clusters(path: Path) -> ClusterTable:
    """Read a table of clusters.

    Raises:
        ConfigError: no such file, not JSON, another format version, missing keys, or a hash of another content.
    """
    again = "Make it: python -m stalign_pl clusters SHARDS --out FILE"
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"data.clusters: there is no file {path}. {again}") from error
    except (ValueError, OSError) as error:
        raise ConfigError(f"data.clusters: {path} is not a table of clusters: {error}. {again}") from error
    version = value.get("format_version") if isinstance(value, dict) else None
    if version != CLUSTERS_FORMAT:
        raise ConfigError(
            f"data.clusters: {path} has format version {version!r}, this program reads {CLUSTERS_FORMAT}. {again}"
        )
    found = value.pop("sha256", None)
    if found != hash_json(value):
        raise ConfigError(
            f"data.clusters: {path} was changed after it was made: its hash is {str(found)[:12]}, its content's "
            f"{hash_json(value)[:12]}. {again}"
        )
    try:
        slides = {name: (of["counts"], of["cluster"]) for name, of in value["slides"].items()}
        return ClusterTable(value["clusters"], value["seed"], value["set"], slides)
    except (KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"data.clusters: {path} is not a table of clusters: {error!r}. {again}") from error


def append_pair_draws(draws: Draws, seed: int, clusters: int) -> Draws:
    """Append one random number a cluster to each row's draws: [B, n + clusters], a function of (seed, epoch, spot).

    Args:
        draws: of n numbers a row.
        seed: of the run.
        clusters: C, clusters of a slide.
    """

    def both(epoch: int, slide: np.ndarray, spot: np.ndarray) -> np.ndarray:
        return np.concatenate(
            (draws(epoch, slide, spot), draw_uniform(seed, epoch, slide, spot, STREAM, clusters)), axis=1
        )

    return both
