"""Tars that hold other samples than the index: a WebDataset user would meet them, so `check --deep` names them."""

from __future__ import annotations

import io
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from data_prep.check.check import check_set
from data_prep.check.plain_format import TarSamples
from data_prep.check.problem import Problem
from stalign_pl.shard_format import INDEX_COLUMN, MEMBERS

Member = tuple[str, bytes]


@pytest.fixture
def spoiled(tiny_shards: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_shards, tmp_path / "set"))


def spot_at(folder: Path, rank: int) -> int:
    """The spot of slide tiny_2 whose sample is the rank-th in its tar."""
    ranks = np.load(folder / "tiny_2.index.npy")[:, INDEX_COLUMN["rank"]]
    return int(np.flatnonzero(ranks == rank)[0])


def rewrite(folder: Path, change: Callable[[list[list[Member]]], list[list[Member]]]) -> None:
    """Write the tar of slide tiny_2 anew with other samples, each a list of its members."""
    path = folder / "tiny_2.tar"
    with tarfile.open(path) as old:
        members = [(info.name, old.extractfile(info).read()) for info in old]
    samples = [members[at : at + len(MEMBERS)] for at in range(0, len(members), len(MEMBERS))]
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as new:
        for name, payload in (member for sample in change(samples) for member in sample):
            info = tarfile.TarInfo(name)
            info.size = len(payload)
            new.addfile(info, io.BytesIO(payload))


def found_by_webdataset(folder: Path) -> list[Problem]:
    """The problems that the headers do not tell."""
    words = ("sample", "WebDataset")
    problems = list(check_set(folder, deep=True))
    assert {problem.file for problem in problems} == {"tiny_2.tar"}
    return [problem for problem in problems if any(word in problem.what for word in words)]


def rename(sample: list[Member], key: str) -> list[Member]:
    return [(f"{key}.{name.partition('.')[2]}", payload) for name, payload in sample]


def test_a_renamed_sample_is_missing_and_extra(spoiled: Path) -> None:
    rewrite(spoiled, lambda samples: [*samples[:3], rename(samples[3], "00001_000999"), *samples[4:]])
    spot = spot_at(spoiled, 3)
    assert found_by_webdataset(spoiled) == [
        Problem("tiny_2.tar", "holds a sample '00001_000999', which the index does not have"),
        Problem("tiny_2.tar", f"lacks the sample '00001_{spot:06d}' of the index", spot),
    ]


def test_a_removed_sample_is_missing(spoiled: Path) -> None:
    rewrite(spoiled, lambda samples: [*samples[:3], *samples[4:]])
    spot = spot_at(spoiled, 3)
    assert found_by_webdataset(spoiled) == [
        Problem("tiny_2.tar", f"lacks the sample '00001_{spot:06d}' of the index", spot),
        Problem("tiny_2.tar", "gives WebDataset 63 samples, the index has 64"),
    ]


def test_a_removed_member_is_named(spoiled: Path) -> None:
    rewrite(spoiled, lambda samples: [*samples[:3], samples[3][:2] + samples[3][3:], *samples[4:]])
    spot = spot_at(spoiled, 3)
    assert found_by_webdataset(spoiled) == [Problem("tiny_2.tar", f"sample '00001_{spot:06d}' lacks genes.npy", spot)]


def test_a_renamed_member_is_named(spoiled: Path) -> None:
    def change(samples: list[list[Member]]) -> list[list[Member]]:
        name, payload = samples[3][2]
        return [*samples[:3], [*samples[3], (name.replace("genes", "proteins"), payload)], *samples[4:]]

    rewrite(spoiled, change)
    spot = spot_at(spoiled, 3)
    assert found_by_webdataset(spoiled) == [
        Problem("tiny_2.tar", f"sample '00001_{spot:06d}' has also proteins.npy", spot)
    ]


@pytest.mark.parametrize("at", [4, 20, 64])
def test_a_sample_that_stands_twice_is_named(spoiled: Path, at: int) -> None:
    rewrite(spoiled, lambda samples: [*samples[:at], samples[3], *samples[at:]])
    spot = spot_at(spoiled, 3)
    twice = Problem("tiny_2.tar", f"holds the sample '00001_{spot:06d}', or a member of it, more than once", spot)
    count = Problem("tiny_2.tar", "gives WebDataset 65 samples, the index has 64")
    assert found_by_webdataset(spoiled) == ([twice] if at == 4 else [twice, count])


def test_a_member_that_stands_twice_is_named(spoiled: Path) -> None:
    rewrite(spoiled, lambda samples: [*samples[:3], [*samples[3], samples[3][4]], *samples[4:]])
    spot = spot_at(spoiled, 3)
    assert found_by_webdataset(spoiled) == [
        Problem("tiny_2.tar", f"holds the sample '00001_{spot:06d}', or a member of it, more than once", spot)
    ]


@pytest.mark.parametrize("keep", [0.4, 0.97])
def test_a_cut_tar_is_one_problem_where_it_ends(spoiled: Path, keep: float) -> None:
    tar = spoiled / "tiny_2.tar"
    tar.write_bytes(tar.read_bytes()[: int(tar.stat().st_size * keep)])
    index = np.load(spoiled / "tiny_2.index.npy")
    ends = index[:, INDEX_COLUMN["meta_offset"]] + index[:, INDEX_COLUMN["meta_length"]]
    lost = set(np.flatnonzero(ends > tar.stat().st_size).tolist())
    problems = found_by_webdataset(spoiled)
    assert sum("WebDataset stops after" in problem.what for problem in problems) == 1
    assert {problem.spot for problem in problems} <= lost
    assert all("lacks" in problem.what for problem in problems if "WebDataset" not in problem.what)


@pytest.mark.parametrize("content", [b"", b"no tar" * 1000, b"\x1f\x8b" + b"x" * 3000, b"\xfd7zXZ\0" + b"x" * 3000])
def test_a_tar_of_something_else_is_a_problem(spoiled: Path, content: bytes) -> None:
    (spoiled / "tiny_2.tar").write_bytes(content)
    (problem,) = found_by_webdataset(spoiled)
    assert problem.what.startswith("WebDataset stops after 0 of 64 samples: ")
    assert "\n" not in problem.what
    assert problem.spot == spot_at(spoiled, 0)


def test_payloads_are_read_though_headers_are_wrong(spoiled: Path) -> None:
    def change(samples: list[list[Member]]) -> list[list[Member]]:
        name, payload = samples[9][2]
        return [
            *samples[:3],
            *samples[4:9],
            [*samples[9][:2], (name, b"x" + payload[1:]), *samples[9][3:]],
            *samples[10:],
        ]

    rewrite(spoiled, change)
    spot = spot_at(spoiled, 9)
    assert any(problem.spot == spot and "cannot be read" in problem.what for problem in check_set(spoiled, deep=True))


def test_every_process_of_a_job_reads_all_samples(spoiled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert list(check_set(spoiled, deep=True)) == []


def test_a_folder_may_have_a_name_that_ends_a_url(tiny_shards: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_shards, tmp_path / "set #1? {a,b}::c"))
    assert list(check_set(folder, deep=True)) == []


def test_members_come_undecoded(tiny_shards: Path) -> None:
    samples = list(TarSamples(tiny_shards / "tiny_2.tar"))
    assert len(samples) == 64
    assert all(type(payload) is bytes for _, members in samples for payload in members.values())


def test_a_tar_that_cannot_be_opened_is_a_problem(spoiled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WDS_CACHE", str(spoiled / "no_such_folder"))
    problems = list(check_set(spoiled, deep=True))
    assert [problem.file for problem in problems] == ["tiny_1.tar", "tiny_2.tar", "tiny_3.tar"]
    assert all("stops after 0 of 64 samples: ValueError: cache directory" in problem.what for problem in problems)
