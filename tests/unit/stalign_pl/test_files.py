"""A command that could not write its file says so before the work."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from stalign_pl.cli import clusters as clusters_command
from stalign_pl.cli import genes as genes_command
from stalign_pl.cli import plan as plan_command
from stalign_pl.files import parse_output_file


@pytest.mark.parametrize("command", [clusters_command, genes_command, plan_command])
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "is a folder; the name of a file is wanted"),
        ("file/table", "the folder {}/file cannot be made: File exists"),
    ],
)
def test_nowhere_to_write(
    command: ModuleType, name: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit, match="2"):
        command.main(["shards", "--out", str(tmp_path / name)])
    assert said.format(tmp_path) in capsys.readouterr().err


def test_its_folder_is_made(tmp_path: Path) -> None:
    path = parse_output_file(str(tmp_path / "a" / "b" / "table.json"))
    path.write_text("written")
    assert path == tmp_path / "a" / "b" / "table.json"
