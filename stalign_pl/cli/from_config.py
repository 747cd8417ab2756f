"""What a configuration of `fit` builds, without a run: for commands of our own that need the model or the data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lightning.pytorch.cli import LightningArgumentParser

from stalign_pl.cli.lightning import STAlignCLI


class ConfiguredParts(STAlignCLI):
    """`model` (an STAlignModule) and `datamodule` as `fit` would build them, seeded alike; no trainer.

    Args:
        args: what `fit` takes.
    """

    def __init__(self, args: Sequence[str]) -> None:
        super().__init__(["fit", *args])

    def parse_arguments(self, parser: LightningArgumentParser, args: Sequence[str]) -> None:
        """As Lightning's, which warns where the process has arguments of its own."""
        self.config = parser.parse_args(list(args))

    def before_instantiate_classes(self) -> None:
        """Nothing: there is no run."""

    def instantiate_trainer(self, **kwargs: Any) -> None:
        """None."""

    def _run_subcommand(self, subcommand: str) -> None:
        """Nothing."""
