"""Random numbers as a function: uniform, and the same whatever else is drawn."""

from __future__ import annotations

import numpy as np

from stalign_pl.draws import draw_uniform


def test_numbers_are_uniform_and_uncorrelated() -> None:
    draws = draw_uniform(0, 0, np.repeat(np.arange(20), 500), np.tile(np.arange(500), 20), 1, 8)
    assert draws.min() >= 0
    assert draws.max() < 1
    np.testing.assert_allclose(draws.mean(axis=0), 0.5, atol=0.015)
    np.testing.assert_allclose(draws.var(axis=0), 1 / 12, atol=0.004)
    assert np.abs(np.corrcoef(draws.T) - np.eye(8)).max() < 0.05
    assert np.abs(np.corrcoef(draws[:-1, 0], draws[1:, 0])[0, 1]) < 0.05


def test_a_row_does_not_depend_on_its_batch() -> None:
    slide, spot = np.array([3, 1, 3, 7]), np.array([10, 20, 11, 0])
    whole = draw_uniform(5, 2, slide, spot, 1, 4)
    order = np.array([2, 0, 3, 1])
    np.testing.assert_array_equal(draw_uniform(5, 2, slide[order], spot[order], 1, 4), whole[order])


def test_every_argument_matters() -> None:
    slide, spot = np.array([3, 3]), np.array([10, 10])
    base = draw_uniform(5, 2, slide, spot, 1, 4)
    np.testing.assert_array_equal(base[0], base[1])
    others = [
        draw_uniform(6, 2, slide, spot, 1, 4),
        draw_uniform(5, 3, slide, spot, 1, 4),
        draw_uniform(5, 2, slide, spot, 2, 4),
    ]
    others += [draw_uniform(5, 2, slide + 1, spot, 1, 4), draw_uniform(5, 2, slide, spot + 1, 1, 4)]
    others += [draw_uniform(5, 2, spot, slide, 1, 4)]  # slide and spot exchanged
    assert all((other != base).all() for other in others)
