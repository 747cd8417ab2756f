"""Cached features by rows of a batch: which view a spot shows, and what of a shard is then left unread."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import torch

from stalign_pl.batch.buffers import BatchBuffers
from stalign_pl.batch.features import CachedFeatures
from stalign_pl.data.features.cache import FeatureRows
from stalign_pl.data.features.file import compute_checksum, create_features, open_features
from stalign_pl.data.features.settings import FeatureSettings, describe_differences
from stalign_pl.data.niches.config import NicheConfig
from stalign_pl.data.pictures.augmentation import Augmentation
from stalign_pl.data.reading import reader as reader_module
from stalign_pl.data.reading.reader import BatchReader
from stalign_pl.data.shards.shard_set import ShardSet
from stalign_pl.data.shards.tar_bytes import TarBytes
from stalign_pl.errors import ConfigError

SPOTS = 20


def rows_of(views: int, seed: int | None) -> FeatureRows:
    """A cache of one slide, number 4, whose features are 100 x view + spot."""
    values = 100 * np.arange(1 + views)[:, None, None] + np.arange(SPOTS)[None, :, None] + np.zeros((1, 1, 3))
    values = values.astype(np.float32)
    checksums = np.array([[compute_checksum(row) for row in view] for view in values])
    file = SimpleNamespace(values=values, valid=np.arange(SPOTS) != 7, checksums=checksums)
    cache = SimpleNamespace(views={"niche_image": views}, widths={"niche_image": 3}, file=lambda stream, number: file)
    return FeatureRows(cache, seed)


def shown(rows: FeatureRows, epoch: int, slide: Sequence[int], spot: Sequence[int] | np.ndarray) -> torch.Tensor:
    found = rows.read(epoch, np.array(slide), np.array(spot), BatchBuffers())
    assert (found.spot_image, found.spot_gene, found.niche_gene) == (None, None, None)
    return found.niche_image


def test_a_spot_goes_through_its_views_in_turn() -> None:
    spots = list(range(SPOTS))
    rows = rows_of(3, seed=1)
    seen = torch.stack([shown(rows, epoch, [4] * SPOTS, spots)[:, 0] for epoch in range(6)])
    views = (seen - torch.arange(SPOTS)) / 100
    assert views[:3].sort(dim=0).values.T.tolist() == [[1, 2, 3]] * SPOTS
    assert torch.equal(views[:3], views[3:])
    assert len(set(views[0].tolist())) == 3  # each begins at its own
    assert not torch.equal(shown(rows_of(3, seed=2), 0, [4] * SPOTS, spots)[:, 0], seen[0])


@pytest.mark.parametrize(("views", "seed"), [(0, 1), (3, None)])
def test_evaluation_and_a_cache_without_views_show_the_plain_one(views: int, seed: int | None) -> None:
    found = shown(rows_of(views, seed), 5, [4, -1, 4], [6, -1, 2])
    assert found.tolist() == [[6] * 3, [0] * 3, [2] * 3]  # the middle row is padding


def test_a_damaged_spot_is_known() -> None:
    assert [rows_of(0, None).whole(4, spot) for spot in (6, 7, 8)] == [True, False, True]


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A file of two views, ten spots and four numbers; spot 3's sample was damaged."""
    path = tmp_path / "features.h5"
    with create_features(path, {"data.niche.k": 3}, 1, 10, 4) as new:
        new.values[:] = np.random.default_rng(0).normal(size=(2, 10, 4))
        new.valid[3] = False
    return path


def test_a_file_says_what_was_written(written: Path) -> None:
    file = open_features(written)
    assert file.values.shape == (2, 10, 4)
    assert file.views == 1
    assert np.flatnonzero(~file.valid).tolist() == [3]
    assert file.settings == {"data.niche.k": 3}
    assert file.damaged == 0


def test_features_that_are_not_what_was_written_are_counted(written: Path) -> None:
    content = bytearray(written.read_bytes())
    place = content.index(open_features(written).values[1, 4].tobytes())
    content[place + 2] ^= 1
    written.write_bytes(content)
    assert open_features(written).damaged == 1


def test_damage_anywhere_is_an_error_a_difference_or_without_effect(written: Path) -> None:
    """64 bytes of nothing, or one other byte, all over the file: never another exception, nor a search without end."""
    content, whole, random = written.read_bytes(), open_features(written), np.random.default_rng(0)
    for start in range(0, len(content), 32):
        for end, filled in ((start + 64, bytes(64)), (start + 1, bytes([random.integers(256)]))):
            written.write_bytes(content[:start] + filled + content[end:])
            try:
                file = open_features(written)
            except ConfigError:
                continue
            same = np.array_equal(file.values, whole.values)
            assert file.values.shape != whole.values.shape or file.damaged or same


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("valid", None),
        ("valid", np.ones(10)),
        ("valid", np.ones(9, bool)),
        ("checksums", np.ones((2, 10), np.int64)),
        ("features", np.ones((10, 4), np.float32)),
        ("settings", None),
        ("settings", np.bytes_("null")),
        ("settings", np.bytes_("{")),
        ("settings", "{}"),
        ("settings", 3),
    ],
)
def test_other_contents_are_refused(written: Path, name: str, value: object) -> None:
    with h5py.File(written, "r+") as file:
        parts = file.attrs if name == "settings" else file
        del parts[name]
        if value is not None:
            parts[name] = value
    with pytest.raises(ConfigError, match="is not a file of cached features"):
        open_features(written)


def test_a_group_in_a_datasets_place_is_refused(written: Path) -> None:
    with h5py.File(written, "r+") as file:
        del file["features"]
        file.create_group("features")
    with pytest.raises(ConfigError, match="features, valid and checksums are wanted"):
        open_features(written)


def test_differences_name_what_differs_and_forgive_rounding() -> None:
    made = {"data.niche.k": 3, "colours": [0.5, 0.25], "shards": "a"}
    assert describe_differences(made, {**made, "colours": [0.5, 0.25 + 1e-6]}) == []
    assert describe_differences(made, {**made, "colours": [0.5, 0.26]}) == ["colours was [0.5, 0.25], is [0.5, 0.26]"]
    assert describe_differences({"a": 1}, {"b": None, "a": 2}) == ["a was 1, is 2"]


def test_ring_weights_are_those_that_a_file_states() -> None:
    niche = NicheConfig(None, rings=2, weights=(0.5, 0.25))
    settings = FeatureSettings({}, None, {}, "", niche, Augmentation())._niche_settings("gene")
    assert settings["data.niche.weights"] == [0.5, 0.25]
    assert describe_differences(json.loads(json.dumps(settings)), settings) == []


@dataclass
class Kept:
    """Features of some streams, one number a spot."""

    streams: frozenset[str]

    def whole(self, slide: np.ndarray, spot: np.ndarray) -> np.ndarray:
        return spot != 3

    def read(self, epoch: int, slide: np.ndarray, spot: np.ndarray, buffers: BatchBuffers) -> CachedFeatures:
        return CachedFeatures(**{name: torch.from_numpy(spot).float()[:, None] for name in self.streams})


@pytest.mark.parametrize("streams", [("niche_image",), ("spot_image", "niche_image"), ("spot_gene", "niche_gene")])
def test_what_is_cached_is_neither_read_nor_decoded(
    tiny_shards: Path, monkeypatch: pytest.MonkeyPatch, streams: tuple[str, ...]
) -> None:
    shards = ShardSet(tiny_shards)
    number, shard = next(iter(shards.slides.items()))
    ranks, read, decoded = np.array([5, 6, 7, 0, 30, -1]), [], []
    plain = BatchReader(shards.slides, NicheConfig(k=3)).read(np.where(ranks < 0, -1, number), ranks, 0)
    bytes_of, decode = TarBytes.read, reader_module.decode

    def counted(self: TarBytes, path: Path, ranges: Sequence[tuple[int, int]]) -> memoryview:
        read.extend(length for _, length in ranges)
        return bytes_of(self, path, ranges)

    monkeypatch.setattr(TarBytes, "read", counted)
    monkeypatch.setattr(reader_module, "decode", lambda *given: (decoded.append(given[2]), decode(*given))[1])
    cached = BatchReader(shards.slides, NicheConfig(k=3), features=Kept(frozenset(streams)))
    found = cached.read(np.where(ranks < 0, -1, number), ranks, 0)
    spots = shard.spot_of_rank[ranks[:5]]
    assert not (spots == 3).any()
    for scale in ("spot", "niche"):
        image, counts = (getattr(found, f"{scale}_{what}") for what in ("image", "counts"))
        if f"{scale}_image" in streams:
            assert image.shape == (6, 0, 0, 3)
            assert scale not in decoded
        else:
            assert torch.equal(image, getattr(plain, f"{scale}_image"))
        assert torch.equal(counts.count, getattr(plain, f"{scale}_counts").count)  # what genes are regressed on
    for name in ("slide", "spot", "valid", "excluded", "niche_box"):
        assert torch.equal(getattr(found, name), getattr(plain, name))
    for name in streams:
        assert getattr(found.features, name)[:5, 0].tolist() == spots.tolist()
    skipped = sum(
        int(shard.column(f"{scale}_length")[spot])
        for scale in ("spot", "niche")
        for spot in spots
        if f"{scale}_image" in streams
    )
    sample = shard.column("meta_offset") + shard.column("meta_length") - shard.column("spot_offset")
    assert sum(read) <= sample[spots].sum() + 2 * 1024 - skipped


def test_a_sample_that_was_damaged_then_is_damaged_now(tiny_shards: Path) -> None:
    shards = ShardSet(tiny_shards)
    number, shard = next(iter(shards.slides.items()))
    rank = int(np.flatnonzero(shard.spot_of_rank == 3)[0])
    reader = BatchReader(shards.slides, NicheConfig(k=3), features=Kept(frozenset({"niche_image"})))
    batch = reader.read(np.array([number] * 2), np.array([rank, (rank + 1) % 64]), 0)
    assert batch.valid.tolist() == [False, True]
    assert "damaged when its features were made" in str(batch.damaged[0])
