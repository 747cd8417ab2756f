"""Embeddings of an evaluation batch: which fields there are, and what Lightning is given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch

from stalign_pl.batch.inputs import GeneTargets, StepInputs
from stalign_pl.batch.spot_ids import SpotIds
from stalign_pl.training.evaluation_step import EvaluationStep, embed_batch
from tests.support.small_model import batch, small

ROWS = 3


def step_inputs() -> StepInputs:
    spot = torch.arange(ROWS)
    ids = SpotIds(torch.zeros_like(spot), spot, torch.full((ROWS, 1), -1), torch.ones(ROWS, dtype=torch.bool))
    inputs = batch(ROWS)
    return StepInputs(inputs, ids, GeneTargets(inputs.spot_genes, inputs.niche_genes, inputs.measured))


def test_a_step_is_a_mapping_of_its_fields() -> None:
    step = EvaluationStep(None, embed_batch(small().eval(), step_inputs(), features=False))
    assert isinstance(step, Mapping)
    assert dict(step) == {"trained": None, "untrained": step.untrained}


def test_features_are_there_if_asked_for_and_if_their_stream_has_an_input() -> None:
    model, inputs = small(niche_image=None, fusion=None).eval(), step_inputs()
    with torch.no_grad():
        found = embed_batch(model, inputs, features=True)
        assert torch.equal(found.spot_features, model.spot_image.features(inputs.model.spot_image))
    assert found.niche_features is None
    assert found.niche_pair is None
    assert found.niche is None
    assert found.image.shape == (ROWS, model.dim)
    assert embed_batch(model, inputs, features=False).spot_features is None
    without = replace(inputs, model=replace(inputs.model, spot_image=None))
    assert embed_batch(model, without, features=True).spot_features is None


def test_halves_of_a_pair_have_unit_length() -> None:
    model = small().eval()
    pair = embed_batch(model, step_inputs(), features=False).spot_pair
    assert pair.shape == (ROWS, 2 * model.dim)
    for half in pair.split(model.dim, dim=1):
        torch.testing.assert_close(half.norm(dim=1), torch.ones(ROWS))
