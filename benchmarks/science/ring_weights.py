"""How much a spot's neighbours say about it, by ring: weights of a niche that are learnt without labels.

    python -m benchmarks.science.ring_weights    (seconds a cohort, once it is built)

Of each training spot a tenth of its molecules is set aside (molecular cross-validation, Batson, Royer and Webber 2019).
What is set aside is fitted, by least squares over all spots and genes, from the rest of the spot and the mean of each
ring around it; all as shares of a spot's molecules, less the gene's mean, over the root of it, as its Poisson noise
goes. A ring's coefficient over its number of spots, relative to the spot's own, is what a spot of that ring should
count in the niche. Development cohorts, training patients alone. Writes results.json and table.md.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree

from benchmarks.machine import write_results
from benchmarks.science.demo_runs import Cohort
from benchmarks.science.paired_table import spread
from stalign_pl.data.niches.config import WHOLE
from stalign_pl.data.niches.of_slide import SLACK
from stalign_pl.data.shards.shard_set import ShardSet, SlideShard

HELD_OUT = ("P07", "P08", "P09", "P10")
SET_ASIDE = 0.1


def ring_weights(slides: list[SlideShard], genes: int, rings: int, seed: int = 0) -> np.ndarray:
    """[rings] weights of a spot of each ring, relative to the niche's own spot."""
    products, targets = np.zeros((rings + 1, rings + 1)), np.zeros(rings + 1)
    random = np.random.default_rng(seed)
    for slide in slides:
        counts = slide.csr(genes).toarray()
        aside = random.binomial(counts, SET_ASIDE)
        whole = _shares(counts)
        scale = 1 / np.sqrt(whole.mean(axis=0) + 1e-6)
        seen = [_shares(counts - aside), *(mean @ whole for mean in _ring_means(slide.xy, rings))]
        columns = np.stack([_centred(part, scale) for part in seen], axis=1)
        products += columns.T @ columns
        targets += columns.T @ _centred(_shares(aside), scale)
    sizes = np.array([1, *(6 * ring for ring in range(1, rings + 1))])  # of a hexagonal lattice
    each = np.linalg.solve(products, targets) / sizes
    return each[1:] / each[0]


def _shares(counts: np.ndarray) -> np.ndarray:
    return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)


def _centred(shares: np.ndarray, scale: np.ndarray) -> np.ndarray:
    return ((shares - shares.mean(axis=0)) * scale).ravel()


def _ring_means(xy: np.ndarray, rings: int) -> list[sparse.csr_matrix]:
    """[N, N] for each ring: the mean over its spots."""
    tree = cKDTree(xy)
    apart = tree.sparse_distance_matrix(tree, rings + SLACK, output_type="coo_matrix")
    ring = np.ceil(apart.data - SLACK).astype(int)
    found = []
    for number in range(1, rings + 1):
        on = (ring == number) & (apart.row != apart.col)
        members = sparse.csr_matrix((np.ones(on.sum()), (apart.row[on], apart.col[on])), apart.shape)
        found.append(sparse.diags(1 / np.maximum(members.sum(axis=1).A1, 1)) @ members)
    return found


def make_page(found: dict[int, dict[int, list[float]]], seeds: str) -> list[str]:
    """Return table.md: a line a number of rings.

    Args:
        found: number of rings -> cohort seed -> weight of each ring.
        seeds: of the cohorts, by comma.
    """
    lines = [
        f"Development cohorts {seeds}, training patients; weights relative to the niche's own spot, mean ± sd",
        f"over cohorts, and to the nearest of {WHOLE} parts, which `data.niche.weights` is rounded to (1 to {WHOLE}).",
        "",
        "| rings | ring 1 | ring 2 | ring 3 | of 16 |",
        "|---|---|---|---|---|",
    ]
    for rings, by_seed in found.items():
        columns = list(zip(*by_seed.values(), strict=True))
        cells = [spread(of) for of in columns]
        sixteenths = ", ".join(str(round(WHOLE * statistics.mean(of))) for of in columns)
        lines.append("| " + " | ".join([str(rings), *cells, *[""] * (3 - rings), sixteenths]) + " |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="0,1,2,3,4", help="of the cohorts, development seeds")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/ring_weights"))
    args = parser.parse_args()
    found: dict[int, dict[int, list[float]]] = {}
    for seed in (int(seed) for seed in args.seeds.split(",")):
        cohort = Cohort(seed)
        cohort.prepare()
        shards = ShardSet(Path("shards") / cohort.name)
        slides = [slide for slide in shards.slides.values() if slide.record.patient not in HELD_OUT]
        for rings in (1, 2, 3):
            found.setdefault(rings, {})[seed] = ring_weights(slides, len(shards.genes), rings).tolist()
    lines = make_page(found, args.seeds)
    write_results(
        args.out,
        lines,
        [
            {"cohort": seed, "rings": rings, "weights": weights}
            for rings, by_seed in found.items()
            for seed, weights in by_seed.items()
        ],
    )
    print("\n".join(lines))


if __name__ == "__main__":
    main()
