"""A manifest that is JSON of another shape is refused by file and key, whatever stands in it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from stalign_pl.errors import ShardError
from stalign_pl.shard_format import Manifest


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda value: None, "should be an object"),
        (lambda value: [], "should be an object"),
        (lambda value: {**value, "slides": [1]}, "a slide's record is an object; this one is 1"),
        (lambda value: {**value, "slides": None}, r"another type \['slides'\]"),
        (lambda value: {**value, "settings": []}, r"another type \['settings'\]"),
        (lambda value: {key: each for key, each in value.items() if key != "settings"}, r"\['settings'\]"),
        (lambda value: {**value, "more": 1}, r"unknown keys \['more'\]"),
        (lambda value: _of_slide(value, "files", []), r"slide 'tiny_1': files is \[\]; dict"),
        (lambda value: _of_slide(value, "tars", None), "slide 'tiny_1': tars is None; tuple"),
        (lambda value: _of_slide(value, "spots", "many"), "slide 'tiny_1': spots is 'many'; int is wanted"),
    ],
)
def test_another_shape_is_refused_by_name(tiny_shards: Path, tmp_path: Path, change: object, said: str) -> None:
    assert callable(change)
    shutil.copy(tiny_shards / "manifest.json", tmp_path)
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(ShardError, match=said):
        Manifest.read(tmp_path)


def _of_slide(value: dict, key: str, wrong: object) -> dict:
    first, *others = value["slides"]
    return {**value, "slides": [{**first, key: wrong}, *others]}


def test_what_was_written_is_read_again(tiny_shards: Path, tmp_path: Path) -> None:
    manifest = Manifest.read(tiny_shards)
    manifest.write(tmp_path)
    assert (tmp_path / "manifest.json").read_bytes() == (tiny_shards / "manifest.json").read_bytes()
