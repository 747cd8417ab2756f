"""A split file in place of patients' lists: honoured slide by slide, refused where it contradicts, marked."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from data_prep.splits.inputs import read_slides
from data_prep.splits.schemes import SplitRequest, make_split
from stalign_pl.data.datamodule import STAlignData
from stalign_pl.errors import ConfigError


def split_of(shards: Path, out: Path, mapping: dict[str, str] | None = None) -> str:
    """One fold by patient or slide; without a mapping a fold a patient."""
    scheme = "leave_one_patient_out" if mapping is None else "file"
    request = SplitRequest(scheme, mapping=None if mapping is None else {"main": mapping})
    make_split(read_slides(shards), request).write(out)
    return str(out)


def names(slides: dict) -> list[str]:
    return [slide.record.name for slide in slides.values()]


def test_a_fold_gives_what_the_lists_give(tiny_shards: Path, tmp_path: Path) -> None:
    split = split_of(tiny_shards, tmp_path / "split.json")
    by_file = STAlignData(str(tiny_shards), split=split, fold="P3")
    by_list = STAlignData(str(tiny_shards), val_patients=["P1"], test_patients=["P3"])
    for part in ("train_slides", "val_slides", "test_slides"):
        assert names(getattr(by_file, part)) == names(getattr(by_list, part))
    assert by_file.vocabulary.digest() == by_list.vocabulary.digest()
    assert [by_file.split_of(number) for number in (0, 2)] == ["val", "test"]
    assert by_file.division.fold == "P3"
    assert by_file.division.split_sha256 == json.loads(Path(split).read_text())["sha256"]
    assert by_list.division.split_sha256 == ""
    assert by_file.division.describe().endswith(
        "split.json, fold P3: train 1 slides of 1 patients, val 1 slides of 1 patients, test 1 slides of 1 patients"
    )


def relabelled(shards: Path, out: Path, **facts: dict[int, str]) -> Path:
    """A copy of a set whose manifest names other patients, ...: field -> slide number -> value."""
    copy = Path(shutil.copytree(shards, out))
    manifest = json.loads((copy / "manifest.json").read_text())
    for field, values in facts.items():
        for number, value in values.items():
            manifest["slides"][number][field] = value
    (copy / "manifest.json").write_text(json.dumps(manifest))
    return copy


def test_a_split_by_slide_is_honoured_within_a_patient(tiny_shards: Path, tmp_path: Path) -> None:
    """As the paper's is: its lists of patients overlap, its lists of slides do not."""
    numbers = ["151507", "151508", "151509", "151669", "151670", "151673"]
    folder = relabelled(tiny_shards, tmp_path / "set", patient={0: "A", 1: "A"})
    manifest = json.loads((folder / "manifest.json").read_text())
    record = manifest["slides"][2]
    more = [{**record, "number": 3 + n, "name": f"s{number}", "patient": "A"} for n, number in enumerate(numbers)]
    manifest["slides"] += more
    (folder / "manifest.json").write_text(json.dumps(manifest))
    make_split(read_slides(folder), SplitRequest("paper")).write(tmp_path / "paper.json")
    data = STAlignData(str(folder), split=str(tmp_path / "paper.json"))
    assert names(data.test_slides) == [f"s{number}" for number in numbers]
    assert names(data.train_slides) == ["tiny_1", "tiny_2", "tiny_3"]
    (mark,) = data.division.marks
    assert mark == "not disjoint by patient: the paper's split (patient 'A' in train and test)"


def test_a_slide_that_is_left_out_is_in_no_part(tiny_shards: Path, tmp_path: Path) -> None:
    split = split_of(tiny_shards, tmp_path / "split.json", {"P1": "train", "P2": "none", "P3": "test"})
    data = STAlignData(str(tiny_shards), split=split)
    assert [names(part) for part in (data.train_slides, data.val_slides, data.test_slides)] == [
        ["tiny_1"],
        [],
        ["tiny_3"],
    ]


def test_marks_of_the_set_stand_with_or_without_a_split(tiny_shards: Path, tmp_path: Path) -> None:
    folder = relabelled(tiny_shards, tmp_path / "set", patient_from={0: "slide", 1: "study", 2: "study"})
    marks = (
        "a slide stands for a patient in 1 of 3 slides",
        "the study stands for the patient in 2 of 3 slides",
    )
    assert STAlignData(str(folder), test_patients=["P3"]).division.marks == marks
    split = split_of(folder, tmp_path / "split.json")
    assert STAlignData(str(folder), split=split, fold="P3").division.marks == marks
    assert STAlignData(str(tiny_shards), test_patients=["P3"]).division.marks == ()
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["settings"]["slide_as_patient"] = True
    manifest["slides"][0]["patient_from"] = "study"
    (folder / "manifest.json").write_text(json.dumps(manifest))
    first, _ = STAlignData(str(folder), test_patients=["P3"]).division.marks
    assert first.startswith("built with slide_as_patient")


def test_contradictions_are_refused_by_name(tiny_shards: Path, tmp_path: Path) -> None:
    split = split_of(tiny_shards, tmp_path / "split.json")
    with pytest.raises(
        ConfigError, match=r"data.split \(.*\) and data.val_patients, data.train_patients are both given"
    ):
        STAlignData(str(tiny_shards), val_patients=["P2"], train_patients=["P1"], split=split, fold="P3")
    with pytest.raises(ConfigError, match=r"data.fold is 'P3', and data.split"):
        STAlignData(str(tiny_shards), fold="P3")
    with pytest.raises(ConfigError, match=r"3 folds and data.fold names none; folds: P1, P2, P3"):
        STAlignData(str(tiny_shards), split=split)
    other = relabelled(tiny_shards, tmp_path / "other", name={2: "renamed"})
    with pytest.raises(ConfigError, match=r"missing in the set: tiny_3; in the set and not in the split: renamed"):
        STAlignData(str(other), split=split, fold="P3")
    moved = relabelled(tiny_shards, tmp_path / "moved", patient={0: "P2"})
    with pytest.raises(ConfigError, match="patients or studies have changed hands"):
        STAlignData(str(moved), split=split, fold="P3")


def test_a_checkpoint_of_another_fold_is_refused_though_its_genes_are_the_same(
    tiny_shards: Path, tmp_path: Path
) -> None:
    split = split_of(tiny_shards, tmp_path / "split.json")
    folds = {}
    for fold in ("P1", "P3"):
        folds[fold] = STAlignData(str(tiny_shards), split=split, fold=fold)
        folds[fold].selection = type(folds[fold].selection)(n=None)
    assert folds["P1"].vocabulary.digest() == folds["P3"].vocabulary.digest()
    folds["P1"].load_state_dict(folds["P1"].state_dict())
    with pytest.raises(ConfigError, match=r"trained on 1 slides that this configuration holds out: tiny_3"):
        folds["P3"].load_state_dict(folds["P1"].state_dict())
