"""The table of clusters: what is in it, whom it is refused, and how its clusters and draws reach the loss."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import sparse

from stalign_pl.cli.main import main
from stalign_pl.data.datamodule import STAlignData
from stalign_pl.data.epoch.clusters import append_pair_draws, read_clusters
from stalign_pl.data.pictures.augmentation import DRAWS, Augmentation
from stalign_pl.data.reading.reader import BatchReader
from stalign_pl.data.shards.shard_set import ShardSet
from stalign_pl.draws import draw_uniform
from stalign_pl.errors import ConfigError
from stalign_pl.evaluation.clusters import cluster_spots


def made(shards: Path, out: Path, *more: str) -> int:
    """Run the command in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["stalign_pl", "clusters", str(shards), "--out", str(out), *more])
        return main()


@pytest.fixture(scope="module")
def table(tiny_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clusters") / "new" / "table.json"
    assert made(tiny_shards, path) == 0
    return path


def test_six_planted_kinds_of_spot_are_the_clusters() -> None:
    """Six expression programs at library sizes that differ twentyfold; the spots in random order."""
    rng = np.random.default_rng(0)
    kind = rng.permutation(np.repeat(np.arange(6), 40))
    programs = rng.gamma(0.5, 1, (6, 200))
    counts = rng.poisson(programs[kind] * rng.uniform(1, 20, (240, 1)))
    cluster = cluster_spots(sparse.csr_matrix(counts), 6, seed=0)
    assert {tuple(np.unique(kind[cluster == number])) for number in range(6)} == {(number,) for number in range(6)}


def test_a_slide_of_few_distinct_spots_has_fewer_clusters() -> None:
    counts = np.repeat(np.array([[9, 1, 0], [0, 1, 9], [1, 9, 1]]), 3, axis=0)
    assert sorted(np.bincount(cluster_spots(sparse.csr_matrix(counts), 6, 0))) == [3, 3, 3]
    assert cluster_spots(sparse.csr_matrix(np.ones((5, 3), int)), 6, 0).tolist() == [0] * 5


def test_the_table_is_of_the_set_and_the_same_each_time(tiny_shards: Path, table: Path, tmp_path: Path) -> None:
    shards, read = ShardSet(tiny_shards), read_clusters(table)
    assert read.set == shards.digest()
    assert read.clusters == 6
    for slide in shards.slides.values():
        cluster = read.of(slide)
        assert np.array_equal(cluster, cluster_spots(slide.csr(len(shards.genes)), 6, 0))
        assert sorted(np.unique(cluster)) == list(range(6))
    assert made(tiny_shards, tmp_path / "again.json") == 0
    assert (tmp_path / "again.json").read_bytes() == table.read_bytes()
    assert made(tiny_shards, tmp_path / "other.json", "--clusters", "3", "--seed", "4") == 0
    other = read_clusters(tmp_path / "other.json")
    assert (other.clusters, other.seed) == (3, 4)
    assert set("".join(cluster for _, cluster in other.slides.values())) == set("012")


def data(shards: Path, clusters: Path | None, **more: list[str]) -> STAlignData:
    given = {"val_patients": ["P2"], "test_patients": ["P3"], "clusters": clusters and str(clusters), **more}
    return STAlignData(str(shards), 32, 32, **given)


def test_a_slide_that_the_table_lacks_or_that_was_built_again_is_named(
    tiny_shards: Path, table: Path, tmp_path: Path
) -> None:
    """Of the slides that are trained on: the others' clusters are not read."""
    shards = Path(shutil.copytree(tiny_shards, tmp_path / "set"))
    manifest = json.loads((shards / "manifest.json").read_text())
    first, second = manifest["slides"][:2]
    first["files"][f"{first['stem']}.counts.npy"]["sha256"] = "0" * 64
    second["name"] = "tiny_new"
    (shards / "manifest.json").write_text(json.dumps(manifest))
    again = rf"python -m stalign_pl clusters {shards} --out {table}"
    with pytest.raises(
        ConfigError, match=rf"table.json .* missing in it: tiny_new; built again since: tiny_1.*{again}"
    ):
        data(shards, table, val_patients=[])
    with pytest.raises(ConfigError, match=r"belong to .*: built again since: tiny_1\. Make"):
        data(shards, table)
    data(shards, table, val_patients=["P1", "P2"], test_patients=[])  # trains on tiny_3 alone


def test_a_table_that_is_damaged_is_refused(tiny_shards: Path, table: Path, tmp_path: Path) -> None:
    content = json.loads(table.read_text())
    path = tmp_path / "table.json"
    for text, named in (
        ("spam", "is not a table of clusters"),
        (json.dumps({**content, "seed": 5}), "was changed after it was made"),
        (json.dumps({**content, "format_version": 9}), "has format version 9, this program reads 1"),
    ):
        path.write_text(text)
        with pytest.raises(ConfigError, match=rf"data\.clusters: {path} {named}"):
            data(tiny_shards, path)
    with pytest.raises(ConfigError, match=r"there is no file .*nowhere\.json\. Make it: python -m stalign_pl clusters"):
        data(tiny_shards, tmp_path / "nowhere.json")


@pytest.mark.parametrize(
    ("more", "named"),
    [(("--clusters", "11"), "--clusters is 11; 2 to 10"), (("--seed", "-1"), "--seed is -1")],
)
def test_options_out_of_range_are_refused(
    more: tuple[str, ...], named: str, tiny_shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert made(tiny_shards, tmp_path / "table.json", *more) == 1
    assert named in capsys.readouterr().err
    assert not (tmp_path / "table.json").exists()


def test_clusters_and_draws_reach_the_ids_of_training_batches(tiny_shards: Path, table: Path) -> None:
    """Of two training slides, with padding; the draws differ between epochs and not with the row's batch."""
    module = data(tiny_shards, table, val_patients=["P1"], test_patients=[])
    reader = BatchReader(module.train_slides, module.niche, append_pair_draws(Augmentation().draws(3), 3, 6))
    numbers = np.array([*[number for number in module.train_slides for _ in range(5)], -1])
    ranks = np.array([*range(3, 8), *range(5), -1])
    batch = reader.read(numbers, ranks, epoch=2)
    ids = module.transform(batch, Augmentation()).ids
    read = read_clusters(table)
    for row in range(10):
        slide = module.train_slides[int(ids.slide[row])]
        assert ids.cluster[row] == read.of(slide)[int(ids.spot[row])]
    assert ids.cluster[10] == -1
    wanted = draw_uniform(3, 2, numbers[:10], batch.spot[:10].numpy(), 2, 6)
    assert torch.equal(ids.draws[:10], torch.from_numpy(wanted))
    assert torch.equal(batch.draws[:, :DRAWS], reader.read(numbers, ranks, epoch=2).draws[:, :DRAWS])
    assert not torch.equal(ids.draws, module.transform(reader.read(numbers, ranks, 3), Augmentation()).ids.draws)
    assert module.transform(batch).ids.cluster is None  # evaluation
