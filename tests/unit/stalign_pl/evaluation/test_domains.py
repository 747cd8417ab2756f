"""The clustering read-out against planted domains, closed-form ARI, and the training-free floors of a real slide."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse
from scipy.spatial import cKDTree

from stalign_pl.evaluation.baselines import check_coordinates, compute_smoothed_pca
from stalign_pl.evaluation.checks import EvaluationError
from stalign_pl.evaluation.domains import match_colours, score_domains

CLASSES = np.array(["L1", "L2", "WM"])


def planted(spots: int = 240, distance: float = 8.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Three well-separated groups in 12 dimensions: embedding [N, 12], labels [N]."""
    generator = np.random.default_rng(seed)
    number = generator.integers(0, 3, spots)
    centres = generator.standard_normal((3, 12)) * distance
    return centres[number] + generator.standard_normal((spots, 12)), CLASSES[number]


def ari_by_pairs(truth: np.ndarray, found: np.ndarray) -> float:
    """Adjusted Rand index by counting all pairs of spots."""
    upper = np.triu_indices(len(truth), 1)
    same_truth = (truth[:, None] == truth[None])[upper]
    same_found = (found[:, None] == found[None])[upper]
    both, pairs = (same_truth & same_found).sum(), len(same_truth)
    expected = same_truth.sum() * same_found.sum() / pairs
    return float((both - expected) / ((same_truth.sum() + same_found.sum()) / 2 - expected))


@pytest.mark.parametrize("readout", ["tied_gmm", "kmeans"])
def test_planted_domains_are_found(readout: str) -> None:
    embedding, labels = planted()
    result = score_domains(embedding, labels, readout=readout)
    assert result.k == 3
    assert len(result.ari) == len(result.nmi) == 5
    assert result.ari[0] == ari_by_pairs(labels, result.predicted) == 1.0
    assert result.nmi_mean == pytest.approx(1.0)


def test_ari_and_spread_equal_the_definition() -> None:
    embedding, labels = planted(spots=150, distance=0.6)
    result = score_domains(embedding, labels)
    assert 0.0 < result.ari[0] < 0.95
    assert result.ari[0] == pytest.approx(ari_by_pairs(labels, result.predicted), abs=1e-12)
    assert result.mean == pytest.approx(sum(result.ari) / 5)
    assert result.sd == pytest.approx((sum((a - result.mean) ** 2 for a in result.ari) / 4) ** 0.5)
    assert np.isnan(score_domains(embedding, labels, seeds=1).sd)


def test_a_tied_mixture_fits_one_shape_to_all_domains() -> None:
    generator = np.random.default_rng(3)
    number = generator.integers(0, 3, 900)
    spread = generator.standard_normal((900, 2)) * np.array([6.0, 0.5])  # long and thin, the same in each domain
    embedding = spread + np.array([[0, 0], [9, 3], [18, 6]])[number]
    labels = CLASSES[number]
    best = {readout: max(score_domains(embedding, labels, readout=readout).ari) for readout in ("tied_gmm", "kmeans")}
    assert best["tied_gmm"] > 0.98
    assert best["kmeans"] < 0.9


def test_unlabelled_spots_are_clustered_but_not_scored() -> None:
    embedding, labels = planted()
    partly = labels.copy()
    partly[:100] = ""
    embedding[:50] += 20  # a group of its own, all unlabelled
    result = score_domains(embedding, partly, k=4, seeds=1)
    assert result.predicted.shape == (240,)
    assert result.scored == 140
    assert result.ari == (1.0,)
    own = set(result.predicted[:50])
    assert len(own) == 1
    assert not own & set(result.predicted[50:])


def test_two_calls_agree_exactly() -> None:
    embedding, labels = planted(distance=0.6)
    first, second = score_domains(embedding, labels), score_domains(embedding, labels)
    assert first.ari == second.ari
    np.testing.assert_array_equal(first.predicted, second.predicted)


def test_rounding_does_not_pass_for_signal() -> None:
    embedding, labels = planted(distance=1.5)
    wide = np.concatenate([embedding[:, :2] @ np.random.default_rng(1).standard_normal((2, 60)) + 5], axis=1)
    rounded = wide.astype(np.float32).astype(np.float64)  # rank 2, and 28 components of rounding
    assert score_domains(rounded, labels).mean == pytest.approx(score_domains(wide, labels).mean, abs=0.02)


def test_a_collapsed_embedding_scores_zero() -> None:
    labels = planted()[1]
    result = score_domains(np.full((240, 8), 0.3, dtype=np.float32), labels)
    assert result.ari == (0.0,) * 5
    assert set(result.predicted) == {0}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": np.full(240, "L1")}, "slide 'S1'.*column 'layer' holds the one class 'L1'"),
        ({"labels": np.full(240, "")}, "slide 'S1'.*column 'layer' holds no label"),
        ({"k": 241}, "slide 'S1'.*k is 241.*240 spots.*'layer'"),
        ({"labels": np.full(239, "L1")}, "slide 'S1'.*embedding 240, layer 239"),
        ({"readout": "mclust"}, "slide 'S1'.*'mclust'.*tied_gmm.*kmeans"),
        ({"seeds": 0}, "slide 'S1'.*seeds is 0"),
    ],
)
def test_bad_input_is_refused_by_name(change: dict[str, object], message: str) -> None:
    embedding, labels = planted()
    with pytest.raises(EvaluationError, match=message):
        score_domains(**{"embedding": embedding, "labels": labels, "slide": "S1", "column": "layer", **change})


def test_a_non_finite_embedding_is_refused() -> None:
    embedding, labels = planted()
    embedding[17, 3] = np.inf
    with pytest.raises(EvaluationError, match=r"slide 'S1'.*1 of 240 rows, the first is row 17"):
        score_domains(embedding, labels, slide="S1")


def test_matched_colours_maximise_the_agreement() -> None:
    generator = np.random.default_rng(5)
    truth = generator.choice(np.array(["", "a", "b", "c", "d"]), 80)
    predicted = generator.integers(0, 4, 80)
    colours = match_colours(predicted, truth)
    assert sorted(colours) == [0, 1, 2, 3]
    number = {"a": 0, "b": 1, "c": 2, "d": 3}

    def agreement(candidate: Sequence[int] | np.ndarray) -> int:
        return sum(candidate[p] == number[t] for p, t in zip(predicted, truth, strict=True) if t)

    assert agreement(colours) == max(agreement(candidate) for candidate in permutations(range(4)))


def test_surplus_domains_get_colours_of_their_own() -> None:
    truth = np.array(["a", "a", "b", "b", "", ""])
    np.testing.assert_array_equal(match_colours(np.array([3, 3, 1, 1, 0, 2]), truth), [2, 1, 3, 0])


@pytest.mark.real_data
def test_floors_of_a_real_slide(real_data: Path) -> None:
    """Others measured on this slide, after 0, 1, 2 rounds: tied mixture .27, .47, .53; KMeans .27, .41, .50.

    Ours hands the components to the read-out, which standardises them; KMeans gains by that after one round (.52).
    """
    import anndata

    slide = anndata.read_h5ad(real_data / "dlpfc_151673" / "151673.h5ad")
    labels = slide.obs["layer"].astype(str).to_numpy()
    lattice = np.stack([slide.obs["array_col"] / 2, slide.obs["array_row"] * np.sqrt(3) / 2], axis=1)
    pairs = cKDTree(lattice).query_pairs(1.05, output_type="ndarray")
    ring = sparse.coo_matrix((np.ones(len(pairs)), tuple(pairs.T)), (len(labels),) * 2)
    floors = [compute_smoothed_pca(slide.X, ring + ring.T, rounds) for rounds in range(3)]
    tied = [score_domains(floor, labels).mean for floor in floors]
    np.testing.assert_allclose(tied, [0.27, 0.47, 0.53], atol=0.06)
    kmeans = [score_domains(floors[rounds], labels, readout="kmeans").mean for rounds in (0, 2)]
    np.testing.assert_allclose(kmeans, [0.27, 0.50], atol=0.06)
    xy = check_coordinates(slide.obsm["spatial"])
    assert score_domains(xy, labels).mean == pytest.approx(0.24, abs=0.06)
