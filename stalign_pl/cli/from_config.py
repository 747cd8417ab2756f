"""Model and data built from a configuration of `fit`, without a run: for commands that need them."""

from __future__ import annotations

from collections.abc import Sequence

from lightning.pytorch.cli import LightningArgumentParser

from stalign_pl.cli.lightning import STAlignCLI


class ConfiguredParts(STAlignCLI):
    """`model` and `datamodule` as `fit` would build them, with the same seed; no trainer.

    Args:
        args: options of `fit`.
    """

    def __init__(self, args: Sequence[str]) -> None:
        super().__init__(["fit", *args])

    def parse_arguments(self, parser: LightningArgumentParser, args: Sequence[str]) -> None:
        """Parse `args`, without Lightning's warning if the process itself has arguments."""
        self.config = parser.parse_args(list(args))

    def before_instantiate_classes(self) -> None:
        """Do nothing: there is no run."""

    def instantiate_classes(self) -> None:
        """Build data and model, and no trainer."""
        self.config_init = self.parser.instantiate_classes(self.config)
        self.datamodule = self._get(self.config_init, "data")
        self.model = self._get(self.config_init, "model")

    def _run_subcommand(self, subcommand: str) -> None:
        """Do nothing."""
