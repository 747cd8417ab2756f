"""Gene streams and the attention under them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from stalign_pl.batch.gene_panel import GenePanel
from stalign_pl.errors import ConfigError
from stalign_pl.models import GeneMLP, MissingGenes, NicheGeneTransformer
from stalign_pl.models.attention import Attention
from tests.support.panels import plain_panel

STREAMS = {
    "mlp": lambda: GeneMLP(plain_panel(7), tokens=3, width=4, hidden=16),
    "transformer": lambda: NicheGeneTransformer(plain_panel(7), 3, 4, dim=10, depth=2, heads=2, head_dim=8, mlp=12),
}


def counted(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_attention_equals_the_formula_head_by_head() -> None:
    torch.manual_seed(0)
    attention = Attention(width=6, heads=3, head_dim=4).double()
    query, context = torch.randn(2, 5, 6).double(), torch.randn(2, 7, 6).double()
    to_key, to_value = attention.to_key_value.weight.split(12)
    heads = []
    for head in (slice(0, 4), slice(4, 8), slice(8, 12)):
        q, k = query @ attention.to_query.weight[head].T, context @ to_key[head].T
        heads.append(torch.softmax(q @ k.mT / 2, dim=-1) @ (context @ to_value[head].T))  # 2 = sqrt(head_dim)
    torch.testing.assert_close(attention(query, context), attention.to_out(torch.cat(heads, dim=-1)))


def test_attention_drops_in_train_mode_alone() -> None:
    attention, tokens = Attention(6, 2, 4, dropout=0.5), torch.randn(1, 5, 6)
    assert not torch.equal(attention(tokens, tokens), attention(tokens, tokens))
    attention.eval()
    assert torch.equal(attention(tokens, tokens), attention(tokens, tokens))


@pytest.mark.parametrize("kind", STREAMS)
def test_a_stream_gives_tokens_and_every_parameter_a_gradient(kind: str) -> None:
    stream = STREAMS[kind]()
    measured = torch.ones(5, 7, dtype=torch.bool)
    measured[:, 2] = False
    tokens = stream(torch.rand(5, 7), measured)
    assert tokens.shape == (5, 3, 4)
    (tokens * torch.randn_like(tokens)).sum().backward()
    assert all(parameter.grad.any() for parameter in stream.parameters())
    assert stream.missing.value.grad.ne(0).tolist() == [gene == 2 for gene in range(7)]


@pytest.mark.parametrize("kind", STREAMS)
def test_what_stands_at_an_unmeasured_gene_has_no_effect_and_measured_zero_has(kind: str) -> None:
    stream = STREAMS[kind]().eval()
    nn.init.normal_(stream.missing.value)
    expression, measured = torch.rand(2, 7), torch.ones(2, 7, dtype=torch.bool)
    measured[:, 4] = False
    other = expression.clone()
    other[:, 4] = torch.tensor([3.0, float("nan")])
    assert torch.equal(stream(expression, measured), stream(other, measured))
    zero = expression.clone()
    zero[:, 4] = 0
    assert not torch.allclose(stream(expression, measured), stream(zero, torch.ones_like(measured)))


def test_a_gene_is_standardised_by_the_panel_and_a_missing_one_starts_at_its_mean() -> None:
    names = ("A", "B", "C")
    mean, sd = np.array([1, 1, 2], np.float32), np.array([0.5, 1, 0.01], np.float32)
    missing = MissingGenes(GenePanel(names, names, mean, sd))
    given = missing(torch.tensor([[2.0, 5, 3], [0, 5, 1]]), torch.tensor([[True, False, True]] * 2))
    assert given.tolist() == [[2, 0, 10], [-2, 0, -10]]  # within +- 10
    nn.init.constant_(missing.value, 0.25)
    assert missing(torch.ones(1, 3), torch.zeros(1, 3, dtype=torch.bool)).tolist() == [[0.25] * 3]
    assert {"mean", "sd", "value"} == missing.state_dict().keys()


def test_panels_are_equal_by_what_they_say() -> None:
    assert plain_panel(3) == plain_panel(3)
    assert len({plain_panel(3), plain_panel(3), plain_panel(4)}) == 2
    other = GenePanel(plain_panel(3).symbols, plain_panel(3).ids, np.ones(3, np.float32), plain_panel(3).sd)
    assert other != plain_panel(3)
    with pytest.raises(ValueError, match=r"different lengths: \[2, 3\]"):
        replace(plain_panel(3), sd=np.ones(2, np.float32))
    with pytest.raises(ValueError, match="must be above 0"):
        replace(plain_panel(3), sd=np.zeros(3, np.float32))


def test_the_papers_niche_encoder_has_the_papers_widths() -> None:
    with torch.device("meta"):
        stream = NicheGeneTransformer(plain_panel(4384), tokens=8, width=512)
        assert stream.blocks(torch.empty(2, 8, 548)).shape == (2, 8, 548)
        assert stream(torch.empty(2, 4384), torch.empty(2, 4384, dtype=torch.bool)).shape == (2, 8, 512)
    projection = (4384 * 1024 + 1024) + (1024 * 512 + 512) + (512 * 8 * 548 + 8 * 548)
    attention = 2 * 548 + 3 * 548 * 512 + (512 * 548 + 548)
    mlp = 2 * 548 + (548 * 1024 + 1024) + (1024 * 548 + 548)
    read_out = 2 * 548 + (548 * 256 + 256) + (256 * 512 + 512)
    assert counted(stream) == 4384 + projection + 6 * (attention + mlp) + read_out
    assert {layer.p for layer in stream.modules() if isinstance(layer, nn.Dropout)} == {0.1}


@pytest.mark.parametrize(
    ("expression", "measured"),
    [
        (torch.rand(2, 6), torch.ones(2, 6, dtype=torch.bool)),
        (torch.rand(2, 7), torch.ones(7, dtype=torch.bool)),
        (torch.rand(2, 7), torch.ones(2, 7)),
    ],
)
def test_another_panel_is_refused(expression: torch.Tensor, measured: torch.Tensor) -> None:
    with pytest.raises(ConfigError, match=r"should be \[B, 7\]"):
        STREAMS["mlp"]()(expression, measured)
