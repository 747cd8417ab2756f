"""Read a published scGPT model as its authors distribute it: args.json, vocab.json and best_model.pt in a folder."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stalign_pl.errors import ConfigError
from stalign_pl.models.scgpt.encoder import ScGPTEncoder, ScGPTShape
from stalign_pl.models.weights import load_tensors, read_tensors

CLS = "<cls>"

EXPECTED = {"input_style": "binned", "input_emb_style": "continuous", "pre_norm": False}
"""Settings of `args.json` that, where present, must have these values: others are another encoder."""

HEADS = (
    *("decoder.", "cls_decoder.", "mvc_decoder.", "grad_reverse_discriminator."),
    *("flag_encoder.", "batch_encoder."),
)
"""Prefixes of weights that a file may hold beside the encoder: decoders and encoders of training labels. Skipped.

Batch norms (`bn.`, `dsbn.`), which some fine-tuned models have before the Transformer, are not among them: refused.
"""

FLASH = ("self_attn.Wqkv.", "self_attn.in_proj_")
"""Name of the one weight that flash-attention names differently, and its name in torch; the values are the same."""


@dataclass(frozen=True)
class ScGPTFolder:
    """A published folder without its weights.

    Attributes:
        path: the folder.
        shape: of the encoder.
        vocabulary: token -> number, 0 to its length - 1; gene symbols and special tokens.
        pad_token: name of the padding token.
        pad_value: value at padding and at `<cls>`.
        bins: number of bins, see `value_bins`.
    """

    path: Path
    shape: ScGPTShape
    vocabulary: dict[str, int]
    pad_token: str
    pad_value: float
    bins: int

    def encoder(self, dropout: float | None = None, pretrained: bool = True) -> ScGPTEncoder:
        """Build the encoder with its published weights.

        Args:
            dropout: replaces that of `args.json`.
            pretrained: false keeps random weights.

        Raises:
            ConfigError: best_model.pt is missing, not a file of tensors, or lacks or adds a weight of the encoder.
        """
        shape = self.shape if dropout is None else replace(self.shape, dropout=dropout)
        encoder = ScGPTEncoder(shape, len(self.vocabulary), self.vocabulary[self.pad_token])
        if not pretrained:
            return encoder
        path = self.path / "best_model.pt"
        weights = {name.replace(*FLASH): value for name, value in read_tensors(path).items()}
        kept = {name: value for name, value in weights.items() if not name.startswith(HEADS)}
        load_tensors(encoder, kept, path, "args.json and vocab.json of the folder must be those of the file")
        return encoder


def read_folder(path: Path) -> ScGPTFolder:
    """Read args.json and vocab.json.

    Raises:
        ConfigError: a file is missing or no JSON object, a setting is absent, of another type or of another encoder, or
            the vocabulary lacks its special tokens or has gaps.
    """
    given = _Settings(path / "args.json")
    for name, known in EXPECTED.items():
        if given.values.get(name, known) != known:
            raise ConfigError(f"{given.path}: {name} is {given.values[name]!r}; only {known!r} is known")
    width, heads = given.whole("embsize"), given.whole("nheads")
    if width % heads:
        raise ConfigError(f"{given.path}: embsize {width} must be a multiple of nheads {heads}")
    if given.whole("n_bins") < 3:
        raise ConfigError(f"{given.path}: n_bins is {given.whole('n_bins')}; 3 or more is wanted")
    pad_token = given.text("pad_token", "<pad>")
    shape = ScGPTShape(width, heads, given.whole("nlayers"), given.whole("d_hid"), given.number("dropout"))
    vocabulary = _read_vocabulary(path / "vocab.json", pad_token)
    return ScGPTFolder(path, shape, vocabulary, pad_token, given.number("pad_value"), given.whole("n_bins"))


class _Settings:
    """The values of an `args.json`, read by name and type."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.values = _read_object(path)

    def text(self, name: str, default: str) -> str:
        """Return a string."""
        value = self.values.get(name, default)
        if not isinstance(value, str):
            raise ConfigError(f"{self.path}: {name} is {value!r}; a string is wanted")
        return value

    def number(self, name: str) -> float:
        """Return a number."""
        value = self.values.get(name)
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise ConfigError(f"{self.path}: {name} is {value!r}; a number is wanted")
        return value

    def whole(self, name: str) -> int:
        """Return a whole number, at least 1."""
        value = self.number(name)
        if not isinstance(value, int) or value < 1:
            raise ConfigError(f"{self.path}: {name} is {value!r}; a whole number, at least 1, is wanted")
        return value


def _read_vocabulary(path: Path, pad_token: str) -> dict[str, int]:
    vocabulary = _read_object(path)
    absent = [token for token in (CLS, pad_token) if token not in vocabulary]
    if absent:
        raise ConfigError(f"{path}: has no token {', '.join(map(repr, absent))}; scGPT's vocabularies have them")
    numbers = list(vocabulary.values())
    if not all(type(number) is int for number in numbers) or sorted(numbers) != list(range(len(numbers))):
        raise ConfigError(f"{path}: should number its {len(numbers)} tokens 0 to {len(numbers) - 1}, each once")
    return vocabulary


def _read_object(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ConfigError(f"{path}: no such file. An scGPT folder has args.json, vocab.json and best_model.pt")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: should hold a JSON object, holds a {type(value).__name__}")
    return value
