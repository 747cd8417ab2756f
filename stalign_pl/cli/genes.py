"""Choose genes from a split's training slides, as `fit` does, and write genes.tsv: to inspect a selection beforehand.

The options are those of `data.genes` in a config; the same options give the file that `fit` writes into the run's
folder.

examples:
  python -m stalign_pl genes shards/hest --split splits/hest.json --out genes.tsv --n 2000 --detected 0.5
  python -m stalign_pl genes shards/dlpfc --split splits/dlpfc.json --fold Br5292 --out genes.tsv --panel markers.txt
"""

from __future__ import annotations

import argparse
from typing import get_args

from stalign_pl.data.epoch.division import divide
from stalign_pl.data.genes.selection import GeneSelection, Method
from stalign_pl.data.genes.vocabulary import build_vocabulary, report_few_measured
from stalign_pl.data.shards.shard_set import ShardSet
from stalign_pl.files import parse_output_file


def main(arguments: list[str]) -> int:
    """Write the file; print its hash and the slides that measured few of the genes."""
    defaults = GeneSelection()
    parser = argparse.ArgumentParser(
        "python -m stalign_pl genes", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("shards", metavar="SHARDS", help="folder of a shard set")
    parser.add_argument("--split", required=True, metavar="FILE", help="of `python -m data_prep splits`")
    parser.add_argument("--fold", metavar="NAME", help="its fold; needed where it has several")
    parser.add_argument("--out", type=parse_output_file, required=True, metavar="FILE", help="genes.tsv to write")
    parser.add_argument("--n", type=int, default=defaults.n, help=f"number of genes (default {defaults.n})")
    parser.add_argument("--method", choices=get_args(Method), default=defaults.method, help="the most variable, or all")
    parser.add_argument(
        "--detected",
        type=float,
        default=defaults.detected,
        metavar="SHARE",
        help="share of the training slides in which a gene must be detected (default 0)",
    )
    parser.add_argument("--panel", metavar="FILE", help="only these genes, one name a line")
    parser.add_argument("--always", default="", metavar="A,B", help="genes to keep whatever their rank")
    parser.add_argument("--spots", type=int, default=defaults.spots, help="spots of a slide that are read at most")
    given = parser.parse_args(arguments)
    selection = GeneSelection(
        n=given.n,
        always=tuple(name for name in given.always.split(",") if name),
        spots=given.spots,
        method=given.method,
        detected=given.detected,
        panel=given.panel,
    )
    shards = ShardSet(given.shards)
    division = divide(shards, given.split, given.fold, None, None, None)
    vocabulary = build_vocabulary(list(division.train.values()), shards.genes, selection)
    vocabulary.write(given.out, shards.genes, division.split_sha256)
    print(division.describe())
    print(f"genes: {len(vocabulary):,} of {len(shards.genes):,}, selection {vocabulary.digest()[:12]}, in {given.out}")
    every = {**division.train, **division.val, **division.test}
    for line in report_few_measured(vocabulary, every.values(), shards.genes):
        print(line)
    return 0
