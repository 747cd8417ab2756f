"""scGPT as a gene stream: the package's own numbers on random weights, its folder, and what a folder can have wrong."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from stalign_pl.errors import ConfigError
from stalign_pl.models import ScGPT, STAlign, draws_from_generator
from stalign_pl.models.scgpt.encoder import ScGPTEncoder, ScGPTShape
from tests.support.paths import SCGPT
from tests.support.scgpt_fixture import PANEL, WEIGHTS, panel, written
from tests.support.small_model import batch, small

SPOTS = load_file(SCGPT / "spots.safetensors")
VOCABULARY = json.loads((SCGPT / "vocab.json").read_text())
MEASURED = torch.ones_like(SPOTS["expression"], dtype=torch.bool)


KNOWN = torch.tensor([column for column, symbol in enumerate(PANEL.symbols) if symbol in VOCABULARY])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder as published: flash-attention's names, the decoders, the flag of generative training."""
    for name in ("args.json", "vocab.json"):
        shutil.copy(SCGPT / name, tmp_path)
    return written(tmp_path)


def edited(folder: Path, file: str, **changes: object) -> None:
    values = json.loads((folder / file).read_text()) | changes
    (folder / file).write_text(json.dumps({name: value for name, value in values.items() if value is not None}))


def as_drawn(stream: ScGPT) -> ScGPT:
    """The stream with the draws by gene that the package was given."""
    order = SPOTS["place"].argsort()
    token = torch.tensor([VOCABULARY[PANEL.symbols[column]] for column in KNOWN.tolist()])
    stream.column, stream.token, stream.tie = KNOWN[order], token[order], SPOTS["tie"][order]
    return stream


@pytest.mark.parametrize(("max_length", "name"), [(1200, "embedding"), (21, "embedding_short")])
@pytest.mark.parametrize("trains", ["none", "all"])
def test_embeddings_equal_those_of_the_package(folder: Path, max_length: int, name: str, trains: str) -> None:
    stream = as_drawn(ScGPT(PANEL, 2, 4, str(folder), trains, max_length)).eval()
    torch.testing.assert_close(stream.features(SPOTS["expression"], MEASURED), SPOTS[name], rtol=0, atol=1e-5)
    assert not torch.allclose(SPOTS["embedding"], SPOTS["embedding_short"], atol=1e-2)


def test_torchs_own_names_of_the_weights_do_as_well(folder: Path) -> None:
    first = ScGPT(PANEL, 2, 4, str(folder)).features(SPOTS["expression"], MEASURED)
    torch.save({"state_dict": WEIGHTS}, folder / "best_model.pt")
    assert torch.equal(ScGPT(PANEL, 2, 4, str(folder)).features(SPOTS["expression"], MEASURED), first)


def test_a_sequence_is_cls_and_the_spots_known_genes_above_zero(folder: Path) -> None:
    stream = ScGPT(PANEL, 2, 4, str(folder))
    measured = MEASURED.clone()
    measured[:, 11] = False
    tokens, values = stream.sequence(SPOTS["expression"], measured)
    assert stream.left_out == tuple(f"G{number}" for number in range(0, 120, 10))
    assert (tokens[:, 0] == VOCABULARY["<cls>"]).all()
    assert (values[:, 0] == -2).all()
    padding = tokens == VOCABULARY["<pad>"]
    assert torch.equal(values == -2, padding | (torch.arange(tokens.shape[1]) == 0))
    for row, expression in zip(tokens[:, 1:], SPOTS["expression"], strict=True):
        wanted = {VOCABULARY[f"G{c}"] for c in expression.nonzero().flatten().tolist() if c % 10 and c != 11}
        assert sorted(set(row.tolist()) - {VOCABULARY["<pad>"]}) == sorted(wanted)


def test_too_many_genes_are_cut_to_the_same_genes_in_every_spot_and_batch(folder: Path) -> None:
    stream = ScGPT(PANEL, 2, 4, str(folder), max_length=30)
    everything = torch.rand(3, 120) + 0.1
    tokens, _ = stream.sequence(everything, MEASURED[:3])
    assert tokens.shape == (3, 30)
    assert (tokens == tokens[0]).all()
    assert torch.equal(ScGPT(PANEL, 2, 4, str(folder), max_length=30).token, stream.token)
    assert stream.token.tolist() != sorted(stream.token.tolist())
    turned = panel(reversed(PANEL.symbols))
    other, _ = ScGPT(turned, 2, 4, str(folder), max_length=30).sequence(everything, MEASURED[:3])
    assert torch.equal(other, tokens)  # a gene's draws are its own, whatever the panel


def test_a_spots_embedding_does_not_depend_on_the_batch_and_an_empty_spot_has_one(folder: Path) -> None:
    stream = ScGPT(PANEL, 2, 4, str(folder))
    together = stream.features(SPOTS["expression"], MEASURED)
    alone = torch.cat([stream.features(SPOTS["expression"][row : row + 1], MEASURED[:1]) for row in range(9)])
    torch.testing.assert_close(alone, together, rtol=0, atol=1e-5)
    empty = stream.features(SPOTS["expression"][:2], torch.zeros(2, 120, dtype=torch.bool))
    assert empty.isfinite().all()
    assert torch.equal(empty[0], empty[1])


def test_a_frozen_encoder_has_no_gradient_and_stays_out_of_checkpoints_and_a_trained_one_does_not(folder: Path) -> None:
    def model(trains: str) -> STAlign:
        return small(spot_gene=lambda _, tokens, width: ScGPT(few, tokens, width, str(folder), trains))

    few = panel(f"G{number}" for number in range(22))
    frozen, trained = model("none").train(), model("all").train()
    assert frozen.frozen_prefixes == ("spot_gene.encoder.",)
    assert trained.frozen_prefixes == ()
    for each in (frozen, trained):
        each(batch()).spot_gene.sum().backward()
        assert each.spot_gene.to_tokens.project[0].weight.grad.any()
    assert not any(parameter.requires_grad for parameter in frozen.spot_gene.encoder.parameters())
    assert all(parameter.grad.any() for parameter in trained.spot_gene.encoder.transformer_encoder.parameters())
    assert not draws_from_generator(frozen.spot_gene)
    assert draws_from_generator(trained.spot_gene)
    assert not draws_from_generator(ScGPT(PANEL, 2, 4, str(folder), "all", dropout=0.0))


def test_the_published_shape_has_its_size() -> None:
    with torch.device("meta"):
        encoder = ScGPTEncoder(ScGPTShape(width=512, heads=8, layers=12, hidden=512, dropout=0.2), 60_697, 60_694)
    layer = 4 * (512 * 512 + 512) + 2 * (512 * 512 + 512) + 2 * 1024
    values = 1024 + (512 * 512 + 512) + 1024
    assert sum(each.numel() for each in encoder.parameters()) == 60_697 * 512 + 1024 + values + 12 * layer


@pytest.mark.parametrize(
    ("file", "changes", "said"),
    [
        ("args.json", {"input_emb_style": "category"}, "args.json: input_emb_style is 'category'; only 'continuous'"),
        ("args.json", {"embsize": None}, "args.json: embsize is None; a number is wanted"),
        ("args.json", {"nheads": 3}, "args.json: embsize 16 must be a multiple of nheads 3"),
        ("args.json", {"nlayers": 3}, r"missing keys transformer_encoder.layers.2.linear1.bias.* and 7 more"),
        ("args.json", {"nlayers": 1}, r"extra keys transformer_encoder.layers.1.linear1.bias"),
        ("args.json", {"pad_token": ["<pad>"]}, r"args.json: pad_token is \['<pad>'\]; a string is wanted"),
        ("vocab.json", {"<cls>": None}, "vocab.json: has no token '<cls>'"),
        ("vocab.json", {"G1": 0.5}, "vocab.json: should number its 113 tokens 0 to 112"),
        ("vocab.json", {"NEW": 113}, r"encoder.embedding.weight is \[113, 16\], should be \[114, 16\]"),
    ],
)
def test_a_folder_that_does_not_fit_is_refused_by_name(
    folder: Path, file: str, changes: dict[str, object], said: str
) -> None:
    edited(folder, file, **changes)
    with pytest.raises(ConfigError, match=said):
        ScGPT(PANEL, 2, 4, str(folder))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"value_encoder.norm.bias": None}, "best_model.pt: .*missing keys value_encoder.norm.bias"),
        ({"bn.weight": torch.zeros(16)}, "best_model.pt: .*extra keys bn.weight"),
    ],
)
def test_weights_that_miss_or_add_a_key_are_refused_by_name(
    folder: Path, changes: dict[str, torch.Tensor | None], said: str
) -> None:
    written(folder, **changes)
    with pytest.raises(ConfigError, match=said):
        ScGPT(PANEL, 2, 4, str(folder))


def test_files_that_are_not_there_or_hold_something_else_are_refused(folder: Path) -> None:
    (folder / "best_model.pt").write_bytes(b"nothing of the kind")
    with pytest.raises(ConfigError, match=r"best_model\.pt: is no file of tensors alone"):
        ScGPT(PANEL, 2, 4, str(folder))
    (folder / "vocab.json").write_text("[1")
    with pytest.raises(ConfigError, match=r"vocab\.json: is no JSON"):
        ScGPT(PANEL, 2, 4, str(folder))
    with pytest.raises(ConfigError, match=r"nowhere/args.json: no such file. An scGPT folder has args.json"):
        ScGPT(PANEL, 2, 4, "nowhere")


def test_a_panel_or_a_length_that_leaves_nothing_is_refused(folder: Path) -> None:
    mouse = replace(PANEL, symbols=tuple(f"g{number}" for number in range(120)))
    with pytest.raises(ConfigError, match="knows none of the 120 genes, such as g0, g1, g2"):
        ScGPT(mouse, 2, 4, str(folder))
    with pytest.raises(ConfigError, match="max_length is 1; at least 2"):
        ScGPT(PANEL, 2, 4, str(folder), max_length=1)
    with pytest.raises(ConfigError, match=r"should be \[B, 120\]"):
        ScGPT(PANEL, 2, 4, str(folder))(torch.rand(2, 7), torch.ones(2, 7, dtype=torch.bool))
