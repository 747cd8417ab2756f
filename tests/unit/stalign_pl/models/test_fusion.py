"""The fusion network and its simple control."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from stalign_pl.batch.row_keys import RowKeys
from stalign_pl.errors import ConfigError
from stalign_pl.models import ABFN, Concat, Gated, GeneOnly, ImageOnly, keyed_dropout


def counted(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_abfn_has_the_papers_widths() -> None:
    with torch.device("meta"):
        fusion = ABFN(tokens=8, width=512)
        assert fusion(torch.empty(3, 8, 512), torch.empty(3, 8, 512)).shape == (3, 1024)
    norms = 2 * 1024 + 1024
    attention = 512 * 512 * 3 + (512 * 512 + 512)
    bottleneck = (512 * 64 + 64) + (64 * 256 + 256)
    mlp = (4096 * 2048 + 2048) + (2048 * 1024 + 1024)
    assert counted(fusion) == norms + 2 * (attention + bottleneck) + mlp


def test_abfn_equals_its_description() -> None:
    torch.manual_seed(0)
    fusion = ABFN(tokens=3, width=6, heads=2, head_dim=4, bottleneck=5, hidden=7, out=9).double()
    image, gene = torch.randn(2, 3, 6).double(), torch.randn(2, 3, 6).double()
    normed_image, normed_gene = functional.layer_norm(image, (6,)), functional.layer_norm(gene, (6,))
    from_gene = fusion.narrow_image(fusion.image_to_gene(query=normed_image, context=normed_gene))
    from_image = fusion.narrow_gene(fusion.gene_to_image(query=normed_gene, context=normed_image))
    assert from_gene.shape == from_image.shape == (2, 3, 3)
    expected = fusion.mlp(functional.layer_norm(torch.cat((from_gene, from_image), dim=2), (6,)))
    torch.testing.assert_close(fusion(image, gene), expected)
    assert not torch.allclose(fusion(image, gene), fusion(gene, image))


@pytest.mark.parametrize(
    "fusion", [ABFN(3, 6, heads=2, head_dim=4, hidden=7, out=9), Concat(3, 6, out=9), Gated(3, 6, out=9)]
)
def test_both_modalities_and_every_parameter_count(fusion: ABFN | Concat | Gated) -> None:
    image, gene = torch.randn(2, 4, 3, 6).requires_grad_().unbind()
    image.retain_grad()
    gene.retain_grad()
    fused = fusion(image, gene)
    assert fused.shape == (4, 9)
    assert fusion.out == 9
    (fused * torch.randn_like(fused)).sum().backward()
    assert image.grad.any()
    assert gene.grad.any()
    assert all(parameter.grad.any() for parameter in fusion.parameters())


def test_concat_reads_the_mean_tokens() -> None:
    fusion, image, gene = Concat(3, 6, out=9), torch.randn(2, 3, 6), torch.randn(2, 3, 6)
    order = torch.tensor([2, 0, 1])
    torch.testing.assert_close(fusion(image, gene), fusion(image[:, order], gene))
    assert not torch.allclose(fusion(image, gene), fusion(gene, image))


def test_an_odd_width_is_refused() -> None:
    with pytest.raises(ConfigError, match="width 7 is odd"):
        ABFN(tokens=3, width=7)


@pytest.mark.parametrize(("kind", "read"), [(ImageOnly, 0), (GeneOnly, 1)])
def test_one_modality_is_all_that_is_read(kind: type[ImageOnly | GeneOnly], read: int) -> None:
    fusion, tokens = kind(3, 6, out=9), torch.randn(2, 4, 3, 6)
    other = torch.randn(4, 3, 6)
    fused = fusion(*tokens)
    given = [None, None]
    given[read] = tokens[read]
    assert torch.equal(fused, fusion(*given))
    given[read] = other
    assert not torch.allclose(fused, fusion(*given))
    assert (fusion.out, fusion.reads) == (9, (("image", "gene")[read],))
    with pytest.raises(ConfigError, match=f"{kind.__name__}: no {fusion.reads[0]} tokens"):
        fusion(None, None)


def test_gated_equals_its_description() -> None:
    torch.manual_seed(0)
    fusion, image, gene = Gated(3, 6, out=9).double(), torch.randn(4, 3, 6).double(), torch.randn(4, 3, 6).double()
    values = [
        functional.linear(functional.layer_norm(tokens.mean(1), (6,)), part[1].weight, part[1].bias)
        for tokens, part in ((image, fusion.image), (gene, fusion.gene))
    ]
    gates = torch.sigmoid(torch.cat(values, dim=1) @ fusion.gate.weight.T + fusion.gate.bias)
    weighed = gates[:, :6] * values[0] + gates[:, 6:] * values[1]
    expected = functional.linear(functional.layer_norm(weighed, (6,)), fusion.project[1].weight, fusion.project[1].bias)
    torch.testing.assert_close(fusion(image, gene), expected)


KEYS = RowKeys(5, 2, torch.arange(400) % 7, torch.arange(400))


@pytest.mark.parametrize("keys", [KEYS, None])
def test_a_row_that_loses_a_modality_is_what_the_other_alone_gives(keys: RowKeys | None) -> None:
    torch.manual_seed(0)
    fusion, image, gene = Gated(3, 6, out=9, drop_modality=0.5), torch.randn(400, 3, 6), torch.randn(400, 3, 6)
    with keyed_dropout(fusion, keys):
        fused = fusion(image, gene)
    kinds = [fusion.eval()(*given) for given in ((image, gene), (image, None), (None, gene))]
    same = torch.stack([torch.isclose(fused, kind, atol=1e-5).all(dim=1) for kind in kinds])
    assert (same.sum(0) == 1).all()
    assert same.float().mean(1).tolist() == pytest.approx([0.5, 0.25, 0.25], abs=0.08)


def test_which_modality_a_keyed_row_loses_does_not_depend_on_its_batch() -> None:
    fusion, image, gene = Gated(3, 6, drop_modality=0.5), torch.randn(400, 3, 6), torch.randn(400, 3, 6)
    with keyed_dropout(fusion, KEYS):
        whole = fusion(image, gene)
    order = torch.randperm(400)[:50]
    with keyed_dropout(fusion, RowKeys(5, 2, KEYS.slide[order], KEYS.spot[order])):
        torch.testing.assert_close(fusion(image[order], gene[order]), whole[order])


def test_gated_wants_something_and_a_chance() -> None:
    with pytest.raises(ConfigError, match="neither image nor genes"):
        Gated(3, 6)(None, None)
    with pytest.raises(ConfigError, match=r"drop_modality is 1\.0"):
        Gated(3, 6, drop_modality=1.0)
