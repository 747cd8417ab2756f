"""Value binning against numpy's quantiles, and against scGPT's own bins."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from stalign_pl.models.scgpt.value_bins import TIE_BITS, bin_values
from tests.support.paths import SCGPT


def reference(row: np.ndarray, bins: int, draw: np.ndarray) -> np.ndarray:
    edges = np.quantile(row, np.linspace(0, 1, bins - 1))
    up_to, below = np.digitize(row, edges), np.digitize(row, edges, right=True)
    return np.ceil(draw * (below - up_to) + up_to).astype(int)


def test_bins_are_those_of_scgpt() -> None:
    spots = load_file(SCGPT / "spots.safetensors")
    vocabulary = (SCGPT / "vocab.json").read_text()
    known = [column for column in range(120) if f'"G{column}"' in vocabulary]
    values = spots["expression"][:, known]
    assert torch.equal(bin_values(values, values > 0, 51, spots["tie"]), spots["bins"])
    assert spots["bins"].max() == 50


@pytest.mark.parametrize("bins", [3, 8, 51])
@pytest.mark.parametrize("kind", ["distinct", "counts"])
def test_bins_follow_the_quantiles_of_a_rows_expressed_values(bins: int, kind: str) -> None:
    random = np.random.default_rng(bins)
    values = random.gamma(1, 2, (40, 90)) if kind == "distinct" else random.poisson(1.5, (40, 90)).astype(float)
    expressed = (random.random((40, 90)) < random.random((40, 1))) & (values > 0)
    tie = random.integers(0, 2**TIE_BITS, 90)
    found = bin_values(*map(torch.from_numpy, (values, expressed)), bins, torch.from_numpy(tie)).numpy()
    assert not found[~expressed].any()
    assert expressed.any(axis=1).sum() > 30
    wanted = [
        reference(row[shown], bins, tie[shown] / 2**TIE_BITS)
        for row, shown in zip(values, expressed, strict=True)
        if shown.any()
    ]
    apart = np.abs(found[expressed] - np.concatenate(wanted))
    # numpy's rounding can move an edge off the value it equals, in exact arithmetic: one bin less, where values tie
    assert apart.max() <= (kind == "counts")
    assert apart.mean() < 0.01


def test_bins_of_counts_and_of_their_logarithms_are_the_same_and_a_row_without_genes_has_none() -> None:
    counts = torch.from_numpy(np.random.default_rng(0).poisson(2, (5, 60))).float()
    counts[3] = 0
    tie = torch.arange(60) * 2**18
    log = torch.log1p(counts * (1e4 / counts.sum(1, keepdim=True).clamp(min=1)))
    found = bin_values(counts, counts > 0, 51, tie)
    assert torch.equal(found, bin_values(log, counts > 0, 51, tie))
    assert not found[3].any()
    assert found[0].any()
