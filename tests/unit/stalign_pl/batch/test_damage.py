"""Damaged samples: left out and named, the rest of the batch as if nothing were; errors of the code are raised."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from stalign_pl.batch.damage import Damaged, count_allowed, make_damage_error
from stalign_pl.batch.spot_batch import SpotBatch
from stalign_pl.data.niches.config import NicheConfig
from stalign_pl.data.reading import reader as reader_module
from stalign_pl.data.reading.reader import BatchReader
from stalign_pl.data.shards.shard_set import ShardSet
from stalign_pl.errors import ConfigError, ShardError
from tests.support.damaged import overwrite

ROWS = 12
BAD = 5


@pytest.fixture
def folder(tiny_shards: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_shards, tmp_path / "set"))


def spot_at(folder: Path, place: int) -> int:
    return int(ShardSet(folder).slides[0].spot_of_rank[place])


def read(folder: Path, verify: bool = True) -> SpotBatch:
    shards = ShardSet(folder)
    slide = np.array([0] * ROWS + [-1])
    return BatchReader(shards.slides, NicheConfig(), verify=verify).read(slide, np.append(np.arange(ROWS), -1), epoch=0)


@pytest.mark.parametrize(
    ("member", "new", "at", "verify", "why"),
    [
        ("niche", b"\x55", 200, True, "checksum"),
        ("genes", b"\x55", 130, True, "checksum"),
        ("meta", b"\xff", 2, True, "checksum"),
        ("spot", b"\x00" * 8, 0, False, "spot image is neither JPEG nor PNG"),
        ("spot", b"\x00" * 8, 40, False, "spot image does not decode"),
        ("niche", b"\x00" * 40, 20, False, "niche image does not decode"),
        ("meta", b"\xff", 2, False, "metadata or neighbours cannot be read"),
        ("meta", b'{"boxes":[]}', 0, False, "metadata or neighbours cannot be read"),
        ("meta", b'{"rings":[900],"boxes":[]}', 0, False, "its rings end at [900], it has "),
        ("neighbors", b"\xff\xff\xff\x7f", 128, False, "a neighbour is not one of the slide's 64 spots"),
        ("neighbors", b"\xff\xff\xff\xff", 128, False, "a neighbour is not one of the slide's 64 spots"),
    ],
)
def test_a_damaged_sample_is_left_out_and_named(
    folder: Path, member: str, new: bytes, at: int, verify: bool, why: str
) -> None:
    whole = read(folder)
    assert whole.valid.tolist() == [True] * ROWS + [False]
    assert whole.damaged == ()
    overwrite(folder, 0, spot_at(folder, BAD), member, new, at)
    batch = read(folder, verify)
    (sample,) = batch.damaged
    assert (sample.slide, sample.name, sample.spot) == (0, "tiny_1", spot_at(folder, BAD))
    assert sample.file == str(folder / "tiny_1.tar")
    assert why in sample.why
    left = [row for row in range(ROWS) if row != BAD]
    assert batch.valid.nonzero().ravel().tolist() == left
    assert (batch.slide[BAD], batch.spot[BAD]) == (-1, -1)
    assert (batch.excluded[BAD] == -1).all()
    assert not (batch.spot_counts.row == BAD).any()
    assert not (batch.niche_counts.row == BAD).any()
    for name in ("slide", "spot", "table", "spot_image", "spot_box", "niche_image", "niche_box", "excluded", "draws"):
        assert torch.equal(getattr(batch, name)[left], getattr(whole, name)[left]), name
    for name in ("spot_counts", "niche_counts"):
        before, after = getattr(whole, name), getattr(batch, name)
        assert after.length.tolist() == [0 if row == BAD else n for row, n in enumerate(before.length.tolist())]
        for column in ("row", "gene", "count"):
            assert torch.equal(getattr(before, column)[before.row != BAD], getattr(after, column))
    assert any(torch.equal(batch.niche_image[BAD], batch.niche_image[row]) for row in left)


def test_what_a_checksum_alone_would_notice(folder: Path) -> None:
    """Switched off, a changed count in the tar passes: the loader takes counts from counts.npy."""
    overwrite(folder, 0, spot_at(folder, BAD), "genes", b"\x55", 130)
    assert read(folder, verify=False).damaged == ()


def test_nothing_but_damage(folder: Path) -> None:
    for place in range(ROWS):
        overwrite(folder, 0, spot_at(folder, place), "spot", b"\x00" * 8)
    batch = read(folder)
    assert len(batch.damaged) == ROWS
    assert not batch.valid.any()
    assert not batch.spot_image.any()
    assert len(batch.niche_counts.row) == 0


@pytest.mark.parametrize("error", [TypeError("code"), KeyError("code"), ValueError("code")])
def test_errors_of_the_code_are_raised(folder: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def broken(*_: object) -> None:
        raise error

    monkeypatch.setattr(reader_module, "decode", broken)
    with pytest.raises(type(error), match="code"):
        read(folder)


def test_a_cut_tar_is_an_error_at_once(folder: Path) -> None:
    tar = folder / "tiny_1.tar"
    tar.write_bytes(tar.read_bytes()[:5000])
    with pytest.raises(ShardError, match=r"tiny_1\.tar is truncated: 5000 bytes"):
        read(folder)
    tar.unlink()
    with pytest.raises(FileNotFoundError, match=r"tiny_1\.tar"):
        read(folder)


@pytest.mark.parametrize(
    ("given", "spots", "limit"),
    [(None, 999, 0), (None, 50_000, 50), (None, 10**7, 1000), (0, 10**7, 0), (7, 5, 7), (0.5, 9, 4), (1.0, 9, 9)],
)
def test_the_limit(given: float | None, spots: int, limit: int) -> None:
    assert count_allowed(given, spots) == limit


@pytest.mark.parametrize("given", [-1, -0.5, 1.5])
def test_a_limit_that_is_none(given: float | None) -> None:
    with pytest.raises(ConfigError, match=rf"data\.bad_samples is {given}"):
        count_allowed(given, 100)


def test_the_error_lists_the_first_ones() -> None:
    many = [Damaged(0, "a", spot, "a.tar", "bad") for spot in range(12)]
    text = str(make_damage_error(many, "data.bad_samples allows 3 of 100"))
    assert text.startswith("12 damaged samples, data.bad_samples allows 3 of 100. slide 'a', spot 0 (a.tar): bad; ")
    assert "spot 9 " in text
    assert "spot 10 " not in text
    assert "and 2 more" in text
