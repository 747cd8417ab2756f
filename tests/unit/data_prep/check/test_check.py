"""Damage that `check` must find: each case spoils one thing and must be told, by file and spot."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from data_prep.check.check import check_set
from stalign_pl.errors import ShardError
from stalign_pl.shard_format import INDEX_COLUMN, Manifest


@pytest.fixture
def spoiled(tiny_shards: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_shards, tmp_path / "set"))


def edit_array(path: Path, change: Callable[[np.ndarray], None]) -> None:
    array = np.load(path)
    change(array)
    np.save(path, array)


def edit_payload(folder: Path, spot: int, member: str, change: Callable[[bytes], bytes]) -> None:
    """Change a member's bytes in place, same length."""
    index = np.load(folder / "tiny_2.index.npy")
    offset, length = (int(index[spot, INDEX_COLUMN[f"{member}_{what}"]]) for what in ("offset", "length"))
    with open(folder / "tiny_2.tar", "r+b") as file:
        file.seek(offset)
        payload = change(file.read(length))
        assert len(payload) == length
        file.seek(offset)
        file.write(payload)


@pytest.mark.parametrize("deep", [False, True])
def test_a_good_set_has_no_problem(tiny_shards: Path, deep: bool) -> None:
    assert list(check_set(tiny_shards, deep)) == []


def test_quick_looks_at_sizes_and_indices_alone(spoiled: Path) -> None:
    assert list(check_set(spoiled, quick=True)) == []
    edit_payload(spoiled, 9, "neighbors", lambda payload: payload[:-4] + np.int32(64).tobytes())
    assert list(check_set(spoiled, quick=True)) == []
    edit_array(spoiled / "tiny_2.index.npy", lambda index: index[:, INDEX_COLUMN["rank"]].fill(0))
    (spoiled / "tiny_3.h5ad").write_bytes(b"")
    assert {problem.file for problem in check_set(spoiled, quick=True)} == {"tiny_2.index.npy", "tiny_3.h5ad"}


@pytest.mark.parametrize("keep", [0.4, 0.97])
def test_a_cut_tar_is_named_with_the_spot(spoiled: Path, keep: float) -> None:
    tar = spoiled / "tiny_2.tar"
    tar.write_bytes(tar.read_bytes()[: int(tar.stat().st_size * keep)])
    problems = list(check_set(spoiled))
    assert {problem.file for problem in problems} == {"tiny_2.tar"}
    assert any("cut off?" in problem.what for problem in problems)
    index = np.load(spoiled / "tiny_2.index.npy")
    ends = index[:, INDEX_COLUMN["meta_offset"]] + index[:, INDEX_COLUMN["meta_length"]]
    lost = set(np.flatnonzero(ends > tar.stat().st_size).tolist())
    assert lost
    assert {problem.spot for problem in problems if problem.spot is not None} <= lost
    assert any(problem.spot is not None for problem in problems)


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("tiny_2.h5ad", "is missing"),
        ("tiny_2.tar", "is missing"),
        ("tiny_2.index.npy", "is missing"),
        ("genes.tsv", "cannot be read"),
        ("tiny_2.json", "cannot be read"),
    ],
)
def test_a_missing_file_is_named(spoiled: Path, name: str, what: str) -> None:
    (spoiled / name).unlink()
    assert any(problem.file == name and what in problem.what for problem in check_set(spoiled))


def test_another_gene_table_is_found(spoiled: Path) -> None:
    text = (spoiled / "genes.tsv").read_text()
    (spoiled / "genes.tsv").write_text(text.replace("GENE7\n", "GENE8\n"))
    assert [problem.file for problem in check_set(spoiled)] == ["genes.tsv"]


def set_row(spot: int, column: str, value: int) -> Callable[[np.ndarray], None]:
    def change(index: np.ndarray) -> None:
        index[spot, INDEX_COLUMN[column]] = value

    return change


@pytest.mark.parametrize(
    ("file", "change", "spot", "what"),
    [
        ("index", set_row(5, "counts_stop", 10), 5, "to 10,"),
        ("index", set_row(5, "rank", 6), None, "ranks"),
        ("index", set_row(5, "part", 1), None, "parts"),
        ("index", set_row(5, "niche_offset", 512), 5, "niche lies at"),
        ("index", set_row(5, "genes_length", 4), 5, "genes lies at"),
        ("counts", lambda pairs: pairs[0].__setitem__(0, 40), 0, "did not measure"),
        ("counts", lambda pairs: pairs[0].__setitem__(slice(0, 2), pairs[0, 1]), 0, "do not ascend"),
        ("counts", lambda pairs: pairs[1].__setitem__(3, 0), 0, "a count of zero"),
    ],
)
def test_wrong_arrays_are_found(
    spoiled: Path, file: str, change: Callable[[np.ndarray], None], spot: int | None, what: str
) -> None:
    edit_array(spoiled / f"tiny_2.{file}.npy", change)
    problems = [problem for problem in check_set(spoiled) if what in problem.what]
    assert problems
    assert {(problem.file, problem.spot) for problem in problems} <= {
        (f"tiny_2.{file}.npy", spot),
        ("tiny_2.tar", spot),
    }


def test_a_neighbour_beyond_the_slide_is_found(spoiled: Path) -> None:
    edit_payload(spoiled, 9, "neighbors", lambda payload: payload[:-4] + np.int32(64).tobytes())
    assert [(problem.file, problem.spot) for problem in check_set(spoiled)] == [("tiny_2.tar", 9)]


def test_deep_finds_single_bytes(spoiled: Path) -> None:
    edit_payload(spoiled, 9, "niche", lambda payload: payload[:-9] + bytes([payload[-9] ^ 1]) + payload[-8:])
    assert list(check_set(spoiled)) == []
    found = {(problem.file, problem.spot) for problem in check_set(spoiled, deep=True)}
    assert found == {("tiny_2.tar", None), ("tiny_2.tar", 9)}


def test_deep_compares_the_h5ad(spoiled: Path) -> None:
    import h5py

    with h5py.File(spoiled / "tiny_2.h5ad", "r+") as file:
        file["X/data"][0] += 1
    problems = [problem for problem in check_set(spoiled, deep=True) if "X differs" in problem.what]
    assert [(problem.file, problem.spot) for problem in problems] == [("tiny_2.h5ad", 0)]


def test_samples_in_another_order_are_found(spoiled: Path) -> None:
    tar = spoiled / "tiny_2.tar"
    with tarfile.open(tar) as old:
        members = [(info, old.extractfile(info).read()) for info in old]
    with tarfile.open(tar, "w", format=tarfile.USTAR_FORMAT) as new:
        for info, payload in [*members[5:], *members[:5]]:
            new.addfile(info, io.BytesIO(payload))
    assert any("should be" in problem.what and problem.file == "tiny_2.tar" for problem in check_set(spoiled))


def test_a_set_without_slides_is_a_problem(spoiled: Path) -> None:
    manifest = json.loads((spoiled / "manifest.json").read_text())
    (spoiled / "manifest.json").write_text(json.dumps({**manifest, "slides": []}))
    assert [str(problem) for problem in check_set(spoiled)] == ["manifest.json: lists no slide"]


def test_another_format_version_is_refused(spoiled: Path) -> None:
    value = json.loads((spoiled / "manifest.json").read_text())
    (spoiled / "manifest.json").write_text(json.dumps({**value, "format_version": 99}))
    with pytest.raises(ShardError, match="shard format version 99, this program reads version 2"):
        list(check_set(spoiled))
    with pytest.raises(ShardError, match="shard format version 99"):
        Manifest.read(spoiled)
