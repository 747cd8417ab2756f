"""The configuration that a command line comes to."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import yaml

from stalign_pl.cli.main import main
from tests.support.paths import REPOSITORY


def printed_config(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> dict[str, Any]:
    """What `fit` makes of its arguments, run from the repository."""
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setattr(sys, "argv", ["stalign_pl", "fit", *arguments, "--print_config"])
    with pytest.raises(SystemExit) as end:
        main()
    printed = capsys.readouterr()
    assert end.value.code == 0, printed.err
    return yaml.safe_load(printed.out)
