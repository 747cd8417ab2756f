"""The fusion network and its simple control."""

import pytest
import torch
import torch.nn.functional as F

from stalign_pl.errors import ConfigError
from stalign_pl.models import ABFN, Concat


def counted(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_abfn_has_the_papers_widths():
    with torch.device("meta"):
        fusion = ABFN(tokens=8, width=512)
        assert fusion(torch.empty(3, 8, 512), torch.empty(3, 8, 512)).shape == (3, 1024)
    norms = 2 * 1024 + 1024
    attention = 512 * 512 * 3 + (512 * 512 + 512)
    bottleneck = (512 * 64 + 64) + (64 * 256 + 256)
    mlp = (4096 * 2048 + 2048) + (2048 * 1024 + 1024)
    assert counted(fusion) == norms + 2 * (attention + bottleneck) + mlp


def test_abfn_equals_its_description():
    torch.manual_seed(0)
    fusion = ABFN(tokens=3, width=6, heads=2, head_dim=4, bottleneck=5, hidden=7, out=9).double()
    image, gene = torch.randn(2, 3, 6).double(), torch.randn(2, 3, 6).double()
    normed_image, normed_gene = F.layer_norm(image, (6,)), F.layer_norm(gene, (6,))
    from_gene = fusion.narrow_image(fusion.image_to_gene(query=normed_image, context=normed_gene))
    from_image = fusion.narrow_gene(fusion.gene_to_image(query=normed_gene, context=normed_image))
    assert from_gene.shape == from_image.shape == (2, 3, 3)
    expected = fusion.mlp(F.layer_norm(torch.cat((from_gene, from_image), dim=2), (6,)))
    torch.testing.assert_close(fusion(image, gene), expected)
    assert not torch.allclose(fusion(image, gene), fusion(gene, image))


@pytest.mark.parametrize("fusion", [ABFN(3, 6, heads=2, head_dim=4, hidden=7, out=9), Concat(3, 6, out=9)])
def test_both_modalities_and_every_parameter_count(fusion):
    image, gene = torch.randn(2, 4, 3, 6).requires_grad_().unbind()
    image.retain_grad()
    gene.retain_grad()
    fused = fusion(image, gene)
    assert fused.shape == (4, 9)
    (fused * torch.randn_like(fused)).sum().backward()
    assert image.grad.any()
    assert gene.grad.any()
    assert all(parameter.grad.any() for parameter in fusion.parameters())


def test_concat_reads_the_mean_tokens():
    fusion, image, gene = Concat(3, 6, out=9), torch.randn(2, 3, 6), torch.randn(2, 3, 6)
    order = torch.tensor([2, 0, 1])
    torch.testing.assert_close(fusion(image, gene), fusion(image[:, order], gene))
    assert not torch.allclose(fusion(image, gene), fusion(gene, image))


def test_an_odd_width_is_refused():
    with pytest.raises(ConfigError, match="width 7 is odd"):
        ABFN(tokens=3, width=7)
