"""The training-free floors against dense and looped references."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from stalign_pl.evaluation import baselines
from stalign_pl.evaluation.baselines import TrainingPCA, check_coordinates, compute_pixel_features, compute_smoothed_pca
from stalign_pl.evaluation.checks import EvaluationError


def slide(spots: int = 40, genes: int = 25) -> tuple[sparse.csr_matrix, np.ndarray]:
    """Counts [N, G] with a spot without counts, and a symmetric 0/1 graph [N, N] with a spot without neighbours."""
    generator = np.random.default_rng(0)
    counts = generator.poisson(np.linspace(0.2, 6, genes), (spots, genes))
    counts[3] = 0
    graph = np.triu(generator.random((spots, spots)) < 0.1, 1)
    graph = graph | graph.T
    graph[7], graph[:, 7] = False, False
    return sparse.csr_matrix(counts), graph


def reference(counts: np.ndarray, graph: np.ndarray, rounds: int, target: float | None) -> np.ndarray:
    """[N, N] inner products of the centred, smoothed expression; free of the PCA's rotation."""
    library = counts.sum(1)
    target = np.median(library[library > 0]) if target is None else target
    expression = np.log1p(counts * target / np.maximum(library, 1)[:, None])
    for _ in range(rounds):
        expression = np.stack([expression[[spot, *np.flatnonzero(graph[spot])]].mean(0) for spot in range(len(graph))])
    expression = expression - expression.mean(0)
    return expression @ expression.T


@pytest.mark.parametrize("target", [None, 1e4])
@pytest.mark.parametrize("rounds", [0, 1, 2, 6])
def test_smoothing_equals_a_loop_over_spots(rounds: int, target: float | None) -> None:
    counts, graph = slide()
    scores = compute_smoothed_pca(counts, sparse.csr_matrix(graph), rounds, target)
    assert scores.shape == (40, 25)
    np.testing.assert_allclose(scores @ scores.T, reference(counts.toarray(), graph, rounds, target), atol=1e-6)


def test_weights_and_diagonal_of_the_graph_do_not_matter() -> None:
    counts, graph = slide()
    weighted = graph * np.random.default_rng(1).random(graph.shape)
    np.fill_diagonal(weighted, 5.0)
    np.testing.assert_array_equal(
        compute_smoothed_pca(counts, sparse.csr_matrix(weighted), 2),
        compute_smoothed_pca(counts, sparse.csr_matrix(graph), 2),
    )


def test_the_most_variable_genes_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "MOST_VARIABLE", 6)
    counts, graph = slide()
    library = counts.toarray().sum(1)
    logged = np.log1p(counts.toarray() * np.median(library[library > 0]) / np.maximum(library, 1)[:, None])
    kept = logged[:, np.argsort(-logged.var(0))[:6]]
    scores = compute_smoothed_pca(counts, sparse.csr_matrix(graph), 0)
    np.testing.assert_allclose(scores @ scores.T, (kept - kept.mean(0)) @ (kept - kept.mean(0)).T, atol=1e-8)


def test_bad_smoothing_is_refused() -> None:
    counts, graph = slide()
    with pytest.raises(EvaluationError, match=r"7 rounds.*0 to 6"):
        compute_smoothed_pca(counts, sparse.csr_matrix(graph), 7)
    with pytest.raises(EvaluationError, match=r"shape \(39, 39\), the slide has 40 spots"):
        compute_smoothed_pca(counts, sparse.csr_matrix(graph[1:, 1:]), 1)
    with pytest.raises(EvaluationError, match="no counts"):
        compute_smoothed_pca(counts * 0, sparse.csr_matrix(graph), 1)


@pytest.mark.parametrize("rounds", [0, 2])
def test_training_pca_projects_a_held_out_slide_by_what_training_slides_say(
    rounds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Inner products of the held-out spots' projections on the space that the training spots' expression spans most."""
    monkeypatch.setattr(baselines, "MOST_VARIABLE", 12)
    monkeypatch.setattr(baselines, "COMPONENTS", 4)
    (held_out, graph), panel = slide(), np.r_[2:20]
    train = np.random.default_rng(5).poisson(np.linspace(6, 0.2, 25), (60, 25))
    library = train[:, panel].sum(1)
    target = np.median(library[library > 0])
    expression, own = (
        np.log1p(x[:, panel] * target / np.maximum(x[:, panel].sum(1), 1)[:, None]) for x in (train, held_out.toarray())
    )
    genes = np.argsort(-expression.var(0))[:12]
    axes = np.linalg.svd(expression[:, genes] - expression[:, genes].mean(0))[2][:4]
    for _ in range(rounds):
        own = np.stack([own[[spot, *np.flatnonzero(graph[spot])]].mean(0) for spot in range(len(graph))])
    expected = (own[:, genes] - expression[:, genes].mean(0)) @ axes.T
    parts = [sparse.csr_matrix(train[:25]), sparse.csr_matrix(train[25:])]
    found = TrainingPCA.fit(parts, panel).scores(held_out, sparse.csr_matrix(graph), rounds)
    np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=1e-8)
    more = TrainingPCA.fit(parts, panel).scores(held_out * 2, sparse.csr_matrix(graph), rounds)
    np.testing.assert_allclose(more, found, atol=1e-8)  # depth is normalised away, by the training slides' target
    niches = TrainingPCA.fit([16 * part for part in parts], panel, target)  # sums of counts, scaled to spots' depth
    np.testing.assert_allclose(niches.scores(16 * held_out, sparse.csr_matrix(graph), rounds), found, atol=1e-8)


def test_coordinates_are_positions() -> None:
    xy = np.array([[1, 2], [3, 4]], dtype=np.int32)
    np.testing.assert_array_equal(check_coordinates(xy), xy.astype(float))
    with pytest.raises(EvaluationError, match="3 columns, 2 were expected"):
        check_coordinates(np.zeros((4, 3)))


def test_image_features_equal_block_means() -> None:
    images = np.random.default_rng(2).integers(0, 256, (5, 12, 8, 3), dtype=np.uint8)
    density = -np.log((images.astype(float) + 1) / 256)
    normal = (density - density.mean((0, 1, 2))) / density.std((0, 1, 2))
    blocks = normal.reshape(5, 4, 3, 4, 2, 3).mean((2, 4))
    expected = np.concatenate([blocks.reshape(5, -1), normal.mean((1, 2)), normal.std((1, 2))], axis=1)
    np.testing.assert_allclose(compute_pixel_features(images, side=4), expected, atol=1e-5)


def test_uneven_areas_keep_the_mean() -> None:
    images = np.random.default_rng(3).integers(0, 256, (3, 7, 11, 3), dtype=np.uint8)
    features = compute_pixel_features(images, side=4)
    assert features.shape == (3, 4 * 4 * 3 + 6)
    np.testing.assert_allclose(features[:, :48].reshape(3, 16, 3).mean(1), features[:, 48:51], atol=1e-5)


def test_image_features_do_not_depend_on_staining_strength(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(4)
    density = generator.random((6, 10, 10, 3)) + 0.3
    faint, strong = (np.round(256 * np.exp(-density * s) - 1).astype(np.uint8) for s in (0.6, 1.5))
    assert np.abs(compute_pixel_features(faint) - compute_pixel_features(strong)).max() < 0.06
    together = compute_pixel_features(faint)
    monkeypatch.setattr(baselines, "CHUNK", 4)
    np.testing.assert_allclose(compute_pixel_features(faint), together, atol=1e-6)


def test_images_of_another_kind_are_refused() -> None:
    with pytest.raises(EvaluationError, match=r"float64 \(5, 8, 8, 3\)"):
        compute_pixel_features(np.zeros((5, 8, 8, 3)))
    with pytest.raises(EvaluationError, match="side is 41; choose 1 to 40"):
        compute_pixel_features(np.zeros((5, 50, 50, 3), dtype=np.uint8), side=41)
