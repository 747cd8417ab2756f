"""The split file: what is written is read, what was changed or is of another set is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from data_prep.splits.schemes import SplitRequest, make_split
from data_prep.splits.units import SplitSlide
from stalign_pl.errors import ConfigError, join_names
from stalign_pl.shard_format.split import Split, read_split

SLIDES = [SplitSlide(f"s{n}", f"P{n // 2}", study=f"study{n // 4}", spots=10) for n in range(8)]
SET = Path("shards/some")


def written(folder: Path, **request: object) -> tuple[Path, Split]:
    split = make_split(SLIDES, SplitRequest("leave_one_patient_out", **request))
    path = folder / "new" / "split.json"
    split.write(path)
    return path, split


def test_it_comes_back_as_it_was(tmp_path: Path) -> None:
    path, split = written(tmp_path)
    back = read_split(path)
    assert back.content() == split.content()
    assert back.sha256() == split.sha256() == json.loads(path.read_text())["sha256"]
    assert [file.name for file in path.parent.iterdir()] == ["split.json"]
    first = path.read_bytes()
    written(tmp_path)
    assert path.read_bytes() == first
    assert back.fold("P1")[1].test.slides == ("s2", "s3")


def test_a_fold_is_named_unless_it_is_the_only_one(tmp_path: Path) -> None:
    split = read_split(written(tmp_path)[0])
    with pytest.raises(ConfigError, match=r"4 folds and data.fold names none; folds: P0, P1, P2, P3"):
        split.fold(None)
    with pytest.raises(ConfigError, match="there is no fold 'P9'"):
        split.fold("P9")
    assert replace(split, folds={"main": split.folds["P0"]}).fold(None)[0] == "main"


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda text: text[:-30], "is not a split file"),
        (lambda text: "[]", "split format version None"),
        (lambda text: text.replace('"format_version": 1', '"format_version": 7'), "version 7, this program reads"),
        (lambda text: text.replace('"s0"', '"s00"', 1), "was changed after it was made.*--scheme file"),
    ],
)
def test_a_damaged_file_is_refused(damage: Callable[[str], str], said: str, tmp_path: Path) -> None:
    path, _ = written(tmp_path)
    path.write_text(damage(path.read_text()))
    with pytest.raises(ConfigError, match=said):
        read_split(path)
    with pytest.raises(ConfigError, match="there is no split file"):
        read_split(tmp_path / "none.json")


def test_a_slide_in_two_parts_is_refused_though_the_hash_fits(tmp_path: Path) -> None:
    path, split = written(tmp_path)
    fold = split.folds["P0"]
    twice = replace(fold, train=replace(fold.train, slides=(*fold.train.slides, "s0")))
    replace(split, folds={"P0": twice}).write(path)
    with pytest.raises(ConfigError, match=r"fold 'P0' has slides in two parts: s0"):
        read_split(path)


def test_another_set_is_refused_by_the_slides_that_differ(tmp_path: Path) -> None:
    path, split = written(tmp_path)
    split.refuse_other_set(SLIDES[::-1], path, SET)
    split.refuse_other_set([replace(slide, study="", spots=3) for slide in SLIDES], path, SET)
    with pytest.raises(ConfigError, match=r"another set than shards/some: missing in the set: s0, s1\..*--scheme file"):
        split.refuse_other_set(SLIDES[2:], path, SET)
    with pytest.raises(ConfigError, match="in the set and not in the split: new"):
        split.refuse_other_set([*SLIDES, SplitSlide("new", "P1")], path, SET)
    with pytest.raises(ConfigError, match="of another patient now: s0"):
        split.refuse_other_set([replace(SLIDES[0], patient="X"), *SLIDES[1:]], path, SET)
    with pytest.raises(ConfigError, match="have changed hands"):
        split.refuse_other_set([replace(SLIDES[0], patient="P3"), *SLIDES[1:]], path, SET)


def test_studies_belong_to_the_set_where_they_are_the_unit() -> None:
    split = make_split(SLIDES, SplitRequest("leave_one_patient_out", unit="study", val=0))
    split.refuse_other_set(SLIDES, Path("a"), SET)
    with pytest.raises(ConfigError, match="have changed hands"):
        split.refuse_other_set([replace(SLIDES[0], study="study1"), *SLIDES[1:]], Path("a"), SET)


def test_long_lists_are_cut() -> None:
    assert join_names(map(str, range(10))) == "0, 1, 2, 3, 4, 5, 6, 7 and 2 more"
