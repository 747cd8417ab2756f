"""One section under two names, or from two sources, found by its counts.

A slide's sketch holds the smallest hashes of its (barcode, gene, count) triples. Two sketches tell how much of the
smaller slide the larger one holds (bottom-k sketches; Broder 1997, Cohen and Kaplan 2007): nearly all where they are
selections of spots or genes from one section, little where they are two sections on the same whitelist of barcodes.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

import numpy as np
from scipy import sparse

from stalign_pl.draws import GOLDEN, mix_bits

SKETCH = 256
"""Hashes a slide: the estimate's standard error is below .03."""

SAME = 0.6
"""Slides of which one holds at least this much of the other, or of the smaller one, are one section."""

_TEN_X = re.compile(r"([ACGT]{14,})(-\d+)?$")
_ARRAY = re.compile(r"(\d+)[x_](\d+)$")


def strip_barcode(barcode: str) -> str:
    """Strip what sources add to a barcode: STimage's slide prefix, Cell Ranger's -1, HEST's zero padding (010x013)."""
    match = _TEN_X.search(barcode)
    if match:
        return match.group(1)
    match = _ARRAY.search(barcode)
    return f"{int(match.group(1))}x{int(match.group(2))}" if match else barcode


def make_sketch(barcodes: np.ndarray, counts: sparse.csr_matrix, genes: np.ndarray) -> np.ndarray:
    """Compute a slide's sketch: uint64 [at most SKETCH], ascending, the smallest hashes of its counts above zero.

    Args:
        barcodes: [N].
        counts: [N, n] CSR, one column a gene.
        genes: int [n], gene indices in the set's table, so that slides that name genes differently agree.
    """
    spots = np.array([_hash_text(strip_barcode(str(barcode))) for barcode in barcodes], np.uint64)
    columns = mix_bits(genes.astype(np.uint64) + np.uint64(1))
    kept = np.empty(0, np.uint64)
    for start in range(0, len(spots), 64):  # by rows, so that memory stays small
        stop = min(start + 64, len(spots))
        low, high = counts.indptr[start], counts.indptr[stop]
        triples = np.repeat(spots[start:stop], np.diff(counts.indptr[start : stop + 1]))
        triples ^= columns[counts.indices[low:high]]
        triples = mix_bits(triples + counts.data[low:high].astype(np.uint64) * np.uint64(GOLDEN))
        if len(kept) == SKETCH:  # after the first rows hardly any is small enough to be sorted
            triples = triples[triples < kept[-1]]
        kept = np.unique(np.concatenate([kept, triples]))[:SKETCH]
    return kept


def estimate_shared(one: np.ndarray, other: np.ndarray) -> float:
    """Estimate the share, 0 to 1, of the smaller slide's triples that the other one also has (containment).

    From three estimates of bottom-k sketches: how much of the union is common (Jaccard), and the sizes of the union and
    of the smaller slide, which the largest hash kept tells.
    """
    union = np.union1d(one, other)[:SKETCH]
    both = np.intersect1d(one, other, assume_unique=True)
    if len(both) == 0:
        return 0.0
    jaccard = float(np.isin(union, both, assume_unique=True).mean())
    smaller = min(_estimate_size(one), _estimate_size(other))
    return min(1.0, jaccard * _estimate_size(union) / smaller)


def _estimate_size(sketched: np.ndarray) -> float:
    """Estimate how many triples a sketch was made of."""
    if len(sketched) < SKETCH:
        return float(len(sketched))
    return (SKETCH - 1) / (float(sketched[-1]) / 2.0**64)


def match_duplicates(sketches: Mapping[int, np.ndarray]) -> dict[int, tuple[int, float]]:
    """Find slide number -> (number of the slide that is kept for it, share in common), of those not kept.

    Of slides that are one section the lowest number is kept. Only slides that share a hash are compared, so a corpus of
    hundreds costs no more than its hashes.
    """
    holders: dict[int, list[int]] = {}
    for number in sorted(sketches):
        for value in sketches[number].tolist():
            holders.setdefault(value, []).append(number)
    pairs = {(one, other) for group in holders.values() for i, one in enumerate(group) for other in group[i + 1 :]}
    found: dict[int, tuple[int, float]] = {}
    for one, other in sorted(pairs):
        if other in found:
            continue
        share = estimate_shared(sketches[one], sketches[other])
        if share >= SAME:
            found[other] = (found[one][0] if one in found else one, share)
    return found


def _hash_text(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
