"""The command line and the config file, as a user meets them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from data_prep.build.config import read_config
from data_prep.cli.main import main
from stalign_pl.errors import ConfigError
from stalign_pl.shard_format import Manifest
from tests.support.paths import REPOSITORY


def test_build_and_check_in_a_process_of_their_own(tiny_cohort: Path, tmp_path: Path) -> None:
    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "data_prep", *arguments]
        return subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, check=False)

    out = tmp_path / "set"
    built = call("build", "--source", "space_ranger", "--input", str(tiny_cohort), "--out", str(out), "--workers", "1")
    assert (built.returncode, built.stderr) == (0, "")
    assert "3 slides (0 were there), 192 spots, 3 patients, 40 genes" in built.stdout
    assert main(["check", str(out), "--deep"]) == 0
    (out / "tiny_1.tar").write_bytes(b"")
    checked = call("check", str(out))
    assert checked.returncode == 1
    assert "tiny_1.tar: has 0 bytes" in checked.stdout


def test_a_bad_slide_makes_the_status_1(tiny_cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import shutil

    cohort = Path(shutil.copytree(tiny_cohort, tmp_path / "in"))
    (cohort / "tiny_1" / "full_image.png").write_bytes(b"\x89PNG")
    call = [
        "build",
        "--source",
        "space_ranger",
        "--input",
        str(cohort),
        "--out",
        str(tmp_path / "set"),
        "--workers",
        "1",
    ]
    assert main(call) == 1
    captured = capsys.readouterr()
    assert "error: slide 'tiny_1':" in captured.err
    assert "full_image.png" in captured.err
    assert len(Manifest.read(tmp_path / "set").slides) == 2
    shutil.copy(tiny_cohort / "tiny_1" / "full_image.png", cohort / "tiny_1" / "full_image.png")
    assert main(call) == 0
    assert "3 slides (2 were there)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--source", "visium", "--input", "."], "known sources: space_ranger, legacy_st, anndata"),
        (["--source", "space_ranger"], "every --source needs its --input"),
        (["--source", "space_ranger", "--input", "nowhere"], "nowhere of source space_ranger does not exist"),
        (["--config", "nowhere.yaml"], "there is no config nowhere.yaml"),
        (["--config", "a.yaml", "--input", "b"], "not both"),
        (["--source", "space_ranger", "--input", ".", "--rings", "0"], "rings is 0; 1 to 32"),
    ],
)
def test_wrong_calls_end_in_2(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["build", "--out", str(tmp_path / "set"), *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize("command", ["build", "check"])
def test_help_has_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert f"python -m data_prep {command}" in capsys.readouterr().out


def test_config_builds_the_same_set_as_the_options(tiny_cohort: Path, tiny_shards: Path, tmp_path: Path) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump({"sources": [{"source": "space_ranger", "input": str(tiny_cohort)}]}))
    assert main(["build", "--config", str(path), "--out", str(tmp_path / "set"), "--workers", "1"]) == 0
    assert (tmp_path / "set/manifest.json").read_bytes() == (tiny_shards / "manifest.json").read_bytes()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sources: []", "should be a list of entries with the keys source, input"),
        ("source: [a]", "unknown key 'source'; known keys: settings, curation, sources"),
        ("settings: {sead: 1}\nsources: []", "unknown key 'sead'; known keys: seed, part_spots"),
        ("settings: {seed: yes}\nsources: []", "seed is True; a whole number is wanted"),
        (
            "sources: [{source: space_ranger, input: ., slide: a}]",
            "unknown key 'slide'; known keys: source, input, catalogue, slides",
        ),
        ("sources: [{source: space_ranger}]", "input is None; a text is wanted"),
        ("sources: [{source: anndata, input: ., slides: a}]", "slides is 'a'; a list is wanted"),
        ("sources: [{source: anndata, input: ., niche_pitches: -1}]", "a value above 0 is wanted"),
        ("sources: [", "is not YAML"),
    ],
)
def test_wrong_configs_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(ConfigError) as error:
        read_config(tmp_path / "c.yaml")
    assert message in str(error.value)


def test_config_of_the_real_sections_says_what_it_means(real_data: Path) -> None:
    config = read_config(REPOSITORY / "configs" / "data" / "real.yaml")
    assert [entry.source for entry in config.sources] == ["legacy_st", "space_ranger", "anndata"]
    assert config.sources[2].slides == ("151507", "151509", "151673")
    assert config.sources[2].options.labels == ("layer",)
