"""scGPT as a gene stream: a published encoder's embedding of a spot, as tokens."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from stalign_pl.batch.features import Features
from stalign_pl.batch.gene_panel import GenePanel
from stalign_pl.draws import GOLDEN, mix_bits, start_draws
from stalign_pl.errors import ConfigError
from stalign_pl.models.compilation import run_uncompiled
from stalign_pl.models.frozen import Source
from stalign_pl.models.image.trained_part import select_trainable
from stalign_pl.models.scgpt.folder import CLS, read_folder
from stalign_pl.models.scgpt.value_bins import TIE_BITS, bin_values
from stalign_pl.models.tokens import ToTokens

TIE, ORDER = 0, 1
"""What is drawn for each gene: the bin it gets among equal values, and its rank when genes are left out."""


class ScGPT(nn.Module):
    """scGPT's embedding of a spot's (or a niche's) expression, as its `embed_data` computes it, projected to tokens.

    As in `embed_data`: genes are found by symbol and unknown ones left out; a spot's sequence holds its genes above 0
    alone; their values are binned by the spot's own quantiles (`bin_values`); `<cls>` goes first, with the value of
    padding; a sequence longer than `max_length` loses genes at random; the output at `<cls>` is scaled to unit length.
    A gene that is not measured counts as not expressed: scGPT does not distinguish them.

    The reference draws anew each time, in the binning of equal values and in the choice of genes. Here both are drawn
    once for each gene (a hash of its token), the same for every spot, epoch and process: any result is one that the
    reference could have given. A spot with more genes than `max_length` keeps the first in a fixed random order.

    Args:
        genes: the panel, G genes; scGPT does not use its statistics.
        tokens: T, number of tokens.
        width: W, width of a token.
        folder: of the published model: args.json, vocab.json, best_model.pt.
        trains: trainable part of scGPT: `none`, frozen (`Frozen`), or `all`. The projection to tokens is always
            trainable.
        max_length: longest sequence, `<cls>` included.
        dropout: in training, where scGPT is trainable; null is that of args.json. Torch's generator draws it, which
            `trainer.deterministic` refuses: there set 0.
        pretrained: load best_model.pt; else the weights start random and the file is not needed.

    Attributes:
        left_out: names of the panel's genes that are not in scGPT's vocabulary.

    Raises:
        ConfigError: see `read_folder` and `ScGPTFolder.encoder`; no gene in common, or a `max_length` below 2.
    """

    COMPANIONS: ClassVar[tuple[str, ...]] = ("args.json", "vocab.json")
    """Files of `folder` that it needs beside its weights."""

    column: Tensor
    token: Tensor
    tie: Tensor

    def __init__(
        self,
        genes: GenePanel,
        tokens: int,
        width: int,
        folder: str,
        trains: Literal["all", "none"] = "none",
        max_length: int = 1200,
        dropout: float | None = None,
        pretrained: bool = True,
    ) -> None:
        super().__init__()
        if max_length < 2:
            raise ConfigError(f"scGPT: max_length is {max_length}; at least 2, <cls> and a gene, is wanted")
        published = read_folder(Path(folder))
        known = np.array([symbol in published.vocabulary for symbol in genes.symbols], bool)
        names = [symbol or gene for symbol, gene in zip(genes.symbols, genes.ids, strict=True)]
        if not known.any():
            raise ConfigError(
                f"{published.path / 'vocab.json'}: knows none of the {len(genes)} genes, such as "
                f"{', '.join(names[:3])}; it knows human genes by symbol"
            )
        self.left_out = tuple(name for name, found in zip(names, known, strict=True) if not found)
        self.max_length, self.pad_value, self.bins = max_length, published.pad_value, published.bins
        self.cls, self.padding = published.vocabulary[CLS], published.vocabulary[published.pad_token]
        columns = np.flatnonzero(known)
        token = np.array([published.vocabulary[genes.symbols[column]] for column in columns])
        order = np.argsort(_draw(token, ORDER), kind="stable")
        for name, values in (("column", columns), ("token", token), ("tie", _draw(token, TIE))):
            self.register_buffer(name, torch.from_numpy(values[order]), persistent=False)  # int64 [known genes]
        encoder = published.encoder(dropout, pretrained)
        self.encoder = select_trainable("scGPT", encoder, trains, folder if pretrained else None)
        self.to_tokens = ToTokens(published.shape.width, tokens, width)

    @staticmethod
    def detach_weights(arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return arguments that build it without best_model.pt, see `TimmStream.detach_weights`; COMPANIONS stay."""
        return {**arguments, "folder": "", "pretrained": False}

    @staticmethod
    def set_folder(arguments: Mapping[str, Any], folder: Path) -> dict[str, Any]:
        """Return detached arguments with the folder that has its COMPANIONS."""
        return {**arguments, "folder": str(folder)}

    @staticmethod
    def source(arguments: Mapping[str, Any]) -> Source | None:
        """Return where the weights come from, see `TimmStream.source`."""
        return Source(arguments["folder"], on_hub=False) if arguments.get("pretrained", True) else None

    @staticmethod
    def attach_weights(arguments: Mapping[str, Any], source: Source) -> dict[str, Any]:
        """Return detached arguments with a published folder again, see `TimmStream.attach_weights`."""
        return {**arguments, "folder": source.name, "pretrained": True}

    @run_uncompiled  # the length depends on the data
    def sequence(self, expression: Tensor, measured: Tensor) -> tuple[Tensor, Tensor]:
        """Return the encoder's input: tokens int64 [B, L] and binned values float32 [B, L], padded to the longest row.

        Args:
            expression: float [B, G], counts or log-normalised counts.
            measured: bool [B, G].

        Raises:
            ConfigError: another shape than that of the panel.
        """
        panel = len(self.column) + len(self.left_out)
        if expression.shape[1:] != (panel,) or measured.shape != expression.shape:
            raise ConfigError(
                f"expression {list(expression.shape)} and measured {list(measured.shape)}: both should be "
                f"[B, {panel}], the gene panel the model was built for"
            )
        values = expression[:, self.column]
        expressed = measured[:, self.column] & (values > 0)
        binned = bin_values(values, expressed, self.bins, self.tie)
        longest = min(int(expressed.sum(dim=1).max()), self.max_length - 1) if len(values) else 0
        first = expressed.byte().argsort(dim=1, descending=True, stable=True)[:, :longest]  # columns are in drawn order
        absent = ~expressed.gather(1, first)
        tokens = self.token[first].masked_fill(absent, self.padding)
        shown = binned.gather(1, first).float().masked_fill(absent, self.pad_value)
        pad = nn.functional.pad
        return pad(tokens, (1, 0), value=self.cls), pad(shown, (1, 0), value=self.pad_value)

    def features(self, expression: Tensor | Features, measured: Tensor) -> Tensor:
        """Return scGPT's embedding [B, F] of unit length, F = 512 as published; cached features as they are."""
        if isinstance(expression, Features):
            return expression.values
        return self.encoder(*self.sequence(expression, measured))

    def forward(self, expression: Tensor | Features, measured: Tensor) -> Tensor:
        """Return tokens [B, T, W].

        Args:
            expression: float [B, G], counts or log-normalised counts; or cached features.
            measured: bool [B, G].
        """
        return self.to_tokens(self.features(expression, measured))


def _draw(token: np.ndarray, stream: int) -> np.ndarray:
    """Return int64, uniform on 0 to 2^24 - 1: a hash of (token, stream)."""
    state = np.uint64(start_draws(0, stream)) + np.uint64(GOLDEN) * (token.astype(np.uint64) + np.uint64(1))
    return (mix_bits(state) >> np.uint64(64 - TIE_BITS)).astype(np.int64)
