"""The weighted sum of three contrasts, and its diagnostics, against plain loops."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from types import SimpleNamespace

import pytest
import torch

from stalign_pl.batch.spot_ids import SpotIds
from stalign_pl.errors import ConfigError
from stalign_pl.objectives import ThreeLevelLoss, ThreeLevelPairedLoss, ThreeLevelSigmoidLoss, diagnostics
from stalign_pl.objectives.three_level import CONTRASTS
from tests.support.loss_reference import batch_ids, info_nce, paired, paired_columns, sigmoid

FIELDS = [field for pair in CONTRASTS.values() for field in pair]


def embeddings(rows: int, seed: int, dims: Sequence[int] = (5, 5, 5, 5, 9, 9)) -> SimpleNamespace:
    generator = torch.Generator().manual_seed(seed)
    return SimpleNamespace(
        **{
            field: torch.randn(rows, dim, generator=generator, dtype=torch.float64).requires_grad_()
            for field, dim in zip(FIELDS, dims, strict=True)
        }
    )


def test_total_and_every_gradient_equal_the_loops() -> None:
    given, ids = embeddings(10, 0), batch_ids(10, 0, padding=(4,))
    loss = ThreeLevelLoss(spot_weight=0.5, niche_weight=0.2).double()
    with torch.no_grad():
        loss.log_scale.copy_(torch.tensor([1.0, 2.0, 0.5]))
    terms = loss(given, ids)
    expected = [
        info_nce(getattr(given, first), getattr(given, second), loss.log_scale[level], ids)
        for level, (first, second) in enumerate(CONTRASTS.values())
    ]
    for got, want in zip((terms.spot, terms.niche, terms.cross), expected, strict=True):
        torch.testing.assert_close(got, want.detach(), rtol=1e-12, atol=0)
        assert not got.requires_grad
    total = 0.5 * expected[0] + 0.2 * expected[1] + 0.3 * expected[2]
    torch.testing.assert_close(terms.total, total, rtol=1e-12, atol=0)
    wanted = [loss.log_scale, *(getattr(given, field) for field in FIELDS)]
    for got, want in zip(torch.autograd.grad(terms.total, wanted), torch.autograd.grad(total, wanted), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("other_slides", [1.0, 0.2, 0.0])
@pytest.mark.parametrize("kind", ["info_nce", "sigmoid"])
def test_the_weight_of_other_slides_reaches_every_level(kind: str, other_slides: float) -> None:
    given, ids = embeddings(10, 1), batch_ids(10, 1)
    scale, bias = torch.tensor(math.log(2), dtype=torch.float64), torch.tensor(-3.0, dtype=torch.float64)
    if kind == "info_nce":
        loss, reference, more = ThreeLevelLoss(temperature=0.5, other_slides=other_slides), info_nce, ()
    else:
        loss = ThreeLevelSigmoidLoss(temperature=0.5, bias=-3.0, other_slides=other_slides)
        reference, more = sigmoid, (bias,)
    terms = loss.double()(given, ids)
    for level, (first, second) in CONTRASTS.items():
        expected = reference(getattr(given, first), getattr(given, second), scale, *more, ids, other_slides)
        torch.testing.assert_close(getattr(terms, level), expected.detach(), rtol=1e-6, atol=0)


def test_sigmoid_starts_as_published_and_learns_a_bias_a_level() -> None:
    loss, ids = ThreeLevelSigmoidLoss(), batch_ids(10, 0)
    terms = loss(embeddings(10, 0), ids)
    terms.total.backward()
    assert loss.log_scale.exp().tolist() == pytest.approx([10] * 3)
    assert loss.bias.tolist() == [-10] * 3
    assert loss.bias.grad.abs().min() > 0
    assert loss.log_scale.grad.abs().min() > 0
    assert [terms.diagnostics[f"bias_{level}"].item() for level in CONTRASTS] == [-10] * 3
    assert not ThreeLevelSigmoidLoss(learn_bias=False).bias.requires_grad


def test_the_authors_loss_has_their_weights_and_negatives() -> None:
    given, ids = embeddings(14, 3), batch_ids(14, 3, padding=(4,))
    loss = ThreeLevelPairedLoss().double()
    assert not loss.log_scale.requires_grad
    terms = loss(given, ids)
    scale = torch.tensor(math.log(10), dtype=torch.float64)
    expected = [
        paired(getattr(given, first), getattr(given, second), scale, ids) for first, second in CONTRASTS.values()
    ]
    total = sum(weight * term for weight, term in zip((0.3, 0.3, 0.4), expected, strict=True))
    torch.testing.assert_close(terms.total, total, rtol=1e-6, atol=0)
    got, want = (
        torch.autograd.grad(value, [getattr(given, field) for field in FIELDS]) for value in (terms.total, total)
    )
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-8)
    columns = {i: paired_columns(i, ids) for i in range(14) if ids.valid[i]}
    strangers = 0
    for i, chosen in columns.items():
        places = [cluster for cluster in range(4) if cluster != ids.cluster[i]]
        strangers += sum(int(ids.cluster[j]) != place for j, place in zip(chosen, places, strict=bool(chosen)))
    absent = 1 - sum(map(len, columns.values())) / (3 * len(columns))
    assert strangers > 0
    assert terms.diagnostics["substitute_negatives"].item() == pytest.approx(strangers / (3 * len(columns)))
    assert terms.diagnostics["absent_negatives"].item() == pytest.approx(absent)


def nearest(first: torch.Tensor, second: torch.Tensor, ids: SpotIds, rivals_of: Callable[[int], list[int]]) -> float:
    """Share of valid rows with rivals whose partner is the nearest by cosine; mean of both directions."""
    hits = []
    for left, right in ((first, second), (second, first)):
        cosine = torch.nn.functional.cosine_similarity(left[:, None], right[None], dim=2).tolist()
        hits += [
            all(cosine[i][j] < cosine[i][i] for j in rivals_of(i))
            for i in range(len(left))
            if ids.valid[i] and rivals_of(i)
        ]
    return sum(hits) / len(hits)


@pytest.mark.parametrize("chunk", [4, 1024])
@pytest.mark.parametrize("kind", [ThreeLevelLoss, ThreeLevelSigmoidLoss, ThreeLevelPairedLoss])
def test_diagnostics_equal_the_loops(
    kind: type[ThreeLevelLoss | ThreeLevelSigmoidLoss | ThreeLevelPairedLoss], chunk: int
) -> None:
    given, ids = embeddings(18, 5), batch_ids(18, 5, padding=(0, 9))
    with torch.no_grad():
        given.spot_gene += 0.7 * given.spot_image
        given.niche += given.spot
    shown = kind(temperature=0.1, chunk=chunk).double()(given, ids).diagnostics
    own = [name for name in shown if name.startswith("bias_") or name.endswith("_negatives")]
    assert len(own) == {ThreeLevelLoss: 0, ThreeLevelSigmoidLoss: 3, ThreeLevelPairedLoss: 2}[kind]
    rows = [i for i in range(18) if ids.valid[i]]

    def others(i: int) -> list[int]:
        return [j for j in rows if j != i]

    def slide_mates(i: int) -> list[int]:
        return [j for j in others(i) if ids.slide[j] == ids.slide[i]]

    def strangers(i: int) -> list[int]:
        return [j for j in rows if ids.slide[j] != ids.slide[i]]

    masked = sum(
        (ids.spot[j] in ids.excluded[i]) or (ids.spot[i] in ids.excluded[j]) or bool(ids.spot[i] == ids.spot[j])
        for i in rows
        for j in slide_mates(i)
    )
    if kind is ThreeLevelPairedLoss:  # whose negatives are of the anchor's slide
        masked += sum(len(strangers(i)) for i in rows)
    expected = {"masked_pairs": masked / (len(rows) * (len(rows) - 1))}
    for level, pair in CONTRASTS.items():
        first, second = (torch.nn.functional.normalize(getattr(given, field).detach()) for field in pair)
        expected[f"accuracy_{level}"] = nearest(first, second, ids, others)
        expected[f"accuracy_in_slide_{level}"] = nearest(first, second, ids, slide_mates)
        expected[f"accuracy_across_slides_{level}"] = nearest(first, second, ids, strangers)
        expected[f"alignment_{level}"] = sum((first[i] - second[i]).square().sum().item() for i in rows) / len(rows)
        expected[f"temperature_{level}"] = 0.1
        for field, unit in zip(pair, (first, second), strict=True):
            potentials = [math.exp(-2 * (unit[i] - unit[j]).square().sum()) for i in rows for j in others(i)]
            expected[f"uniformity_{field}"] = math.log(sum(potentials) / len(potentials))
    assert 0 < expected["masked_pairs"] < 1
    assert 0 < expected["accuracy_spot"] < expected["accuracy_in_slide_spot"] <= 1
    assert 0 < expected["accuracy_spot"] < expected["accuracy_across_slides_spot"] < 1
    assert {name: value.item() for name, value in shown.items() if name not in own} == pytest.approx(expected, rel=1e-5)
    assert not any(value.requires_grad for value in shown.values())


def test_a_collapsed_model_scores_no_hit_and_no_uniformity() -> None:
    one = torch.ones(6, 4)
    shown = ThreeLevelLoss()(SimpleNamespace(**dict.fromkeys(FIELDS, one)), batch_ids(6, 0)).diagnostics
    for name in ("accuracy", "accuracy_in_slide", "accuracy_across_slides"):
        assert [shown[f"{name}_{level}"].item() for level in CONTRASTS] == [0, 0, 0]
    assert [shown[f"uniformity_{field}"].item() for field in FIELDS] == pytest.approx([0] * 6, abs=1e-5)


def test_uniformity_of_a_large_batch_is_that_of_evenly_spaced_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    given, ids = embeddings(14, 2), batch_ids(14, 2, padding=(3, 9))
    monkeypatch.setattr(diagnostics, "UNIFORMITY_ROWS", 5)
    shown = ThreeLevelLoss().double()(given, ids).diagnostics["uniformity_spot"]
    unit = torch.nn.functional.normalize(given.spot.detach())
    potentials = [math.exp(-2 * (unit[i] - unit[j]).square().sum()) for i in (0, 6, 12) for j in (0, 6, 12) if i != j]
    assert shown.item() == pytest.approx(math.log(sum(potentials) / 6), rel=1e-5)


def test_a_scale_past_its_bound_is_brought_back_and_can_return() -> None:
    loss = ThreeLevelLoss(max_scale=20.0)
    with torch.no_grad():
        loss.log_scale.fill_(9.0)
    terms = loss(embeddings(6, 3), batch_ids(6, 3))
    terms.total.backward()
    assert loss.log_scale.tolist() == pytest.approx([math.log(20)] * 3)
    assert loss.log_scale.grad.abs().min() > 0


def test_a_fixed_temperature_is_no_parameter_to_train() -> None:
    loss = ThreeLevelLoss(learn_temperature=False)
    terms = loss(embeddings(6, 3), batch_ids(6, 3))
    terms.total.backward()
    assert loss.log_scale.grad is None
    assert ThreeLevelLoss().log_scale.requires_grad


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"spot_weight": -0.1}, "spot_weight is -0.1"),
        ({"niche_weight": 1.5}, "niche_weight is 1.5"),
        ({"spot_weight": 0.8, "niche_weight": 0.3}, "at most 1"),
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"temperature": 0.001}, "temperature is 0.001"),
        ({"spot_weight": float("nan")}, "spot_weight is nan"),
        ({"other_slides": 1.5}, "other_slides is 1.5"),
        ({"other_slides": -0.1}, "other_slides is -0.1"),
        ({"chunk": 0}, "chunk is 0"),
    ],
)
def test_numbers_out_of_range_are_refused(arguments: dict[str, float], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        ThreeLevelLoss(**arguments)


def test_weights_may_add_up_to_one() -> None:
    terms = ThreeLevelLoss(spot_weight=0.7, niche_weight=0.3)(embeddings(6, 3), batch_ids(6, 3))
    torch.testing.assert_close(terms.total, 0.7 * terms.spot + 0.3 * terms.niche)
