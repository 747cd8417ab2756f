"""Cluster every slide's spots by their counts and write the table that the paired loss reads (data.clusters).

Six clusters a slide by KMeans on 30 principal components of the log-normalised counts. Each slide is clustered on its
own, so the table is the same for every split.

example:
  python -m stalign_pl clusters shards/paper --out shards/paper-clusters.json
"""

from __future__ import annotations

import argparse
import sys

import numpy as np

from stalign_pl.data.epoch.clusters import CLUSTERS, MOST_CLUSTERS, ClusterTable, counts_hash
from stalign_pl.data.shards.shard_set import ShardSet, SlideShard
from stalign_pl.errors import ConfigError
from stalign_pl.evaluation.checks import EvaluationError
from stalign_pl.evaluation.clusters import cluster_spots
from stalign_pl.files import parse_output_file


def main(arguments: list[str]) -> int:
    """Write the table; print its hash and the slides that have fewer clusters."""
    from tqdm import tqdm

    parser = argparse.ArgumentParser(
        "python -m stalign_pl clusters", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("shards", metavar="SHARDS", help="folder of a shard set")
    parser.add_argument("--out", type=parse_output_file, required=True, metavar="FILE", help="the table to write")
    parser.add_argument("--clusters", type=int, default=CLUSTERS, help=f"clusters of a slide (default {CLUSTERS})")
    parser.add_argument("--seed", type=int, default=0, help="seed of KMeans (default 0)")
    given = parser.parse_args(arguments)
    if not 2 <= given.clusters <= MOST_CLUSTERS:
        raise ConfigError(f"--clusters is {given.clusters}; 2 to {MOST_CLUSTERS} are possible")
    if not 0 <= given.seed < 2**32:
        raise ConfigError(f"--seed is {given.seed}; a number from 0 to 2^32 - 1 is wanted")
    shards = ShardSet(given.shards)
    slides, fewer = {}, []
    for slide in tqdm(shards.slides.values(), desc="clusters", unit="slide", disable=not sys.stderr.isatty()):
        cluster = _cluster_slide(slide, len(shards.genes), given.clusters, given.seed)
        slides[slide.record.name] = (counts_hash(slide), "".join(map(str, cluster)))
        if len(np.unique(cluster)) < given.clusters:
            fewer.append(f"{slide.record.name} has {len(np.unique(cluster))} clusters: it has too few distinct spots")
    table = ClusterTable(given.clusters, given.seed, shards.digest(), slides)
    table.write(given.out)
    spots = sum(len(slide) for slide in shards.slides.values())
    print(f"clusters: {len(slides):,} slides, {spots:,} spots, table {table.sha256()[:12]}, in {given.out}")
    for line in fewer:
        print(line)
    return 0


def _cluster_slide(slide: SlideShard, genes: int, clusters: int, seed: int) -> np.ndarray:
    """Cluster of each of a slide's spots, int [N]; an error has the slide's name."""
    try:
        return cluster_spots(slide.csr(genes), clusters, seed)
    except EvaluationError as error:
        raise EvaluationError(str(error), slide.record.name) from error
