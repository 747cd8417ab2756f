"""A command that could not write its file says so before the work."""

from __future__ import annotations

from pathlib import Path

import pytest

from stalign_pl import clusters_command, genes_command, plan_command


@pytest.mark.parametrize("command", [clusters_command, genes_command, plan_command])
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "is a folder; the name of a file is wanted"),
        ("nowhere/table", "there is no folder {}/nowhere to write table"),
    ],
)
def test_nowhere_to_write(command, name: str, said: str, tmp_path: Path, capsys) -> None:
    with pytest.raises(SystemExit, match="2"):
        command.main(["shards", "--out", str(tmp_path / name)])
    assert said.format(tmp_path) in capsys.readouterr().err
