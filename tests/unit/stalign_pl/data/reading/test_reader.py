"""A batch as read by runs of bytes, against the same spots taken by tarfile and anndata."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path

import anndata
import numpy as np
import pytest
from PIL import Image

from stalign_pl.data.epoch.plan import Composition, Plan, plan_training
from stalign_pl.data.niches.config import NicheConfig
from stalign_pl.data.niches.members import normalise_depth
from stalign_pl.data.reading.loader import BatchLoader
from stalign_pl.data.reading.reader import BatchReader
from stalign_pl.data.shards.shard_set import ShardSet
from stalign_pl.errors import ConfigError
from stalign_pl.shard_format import make_sample_key


@pytest.fixture(scope="module")
def shards(tiny_shards: Path) -> ShardSet:
    return ShardSet(tiny_shards)


def read_tar(shards: ShardSet, number: int) -> dict[str, bytes]:
    record = shards.slides[number].record
    with tarfile.open(shards.folder / record.tars[0]) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}


def plan_of(shards: ShardSet) -> Plan:
    sizes = {number: len(slide) for number, slide in shards.slides.items()}
    return plan_training(sizes, Composition(3, 20, 8), seed=0, epoch=0)


def test_pictures_are_those_of_the_tar(shards: ShardSet) -> None:
    plan = plan_of(shards)
    reader = BatchReader(shards.slides, NicheConfig(k=6))
    batch = reader.read(plan.slide[0], plan.rank[0], epoch=0)
    members = {number: read_tar(shards, number) for number in shards.slides}
    for row in range(len(batch)):
        number, spot = int(batch.slide[row]), int(batch.spot[row])
        record, key = shards.slides[number].record, make_sample_key(int(batch.slide[row]), spot)
        for kind, image, side in (
            (f"spot.{record.spot_format}", batch.spot_image, record.spot_px),
            (f"niche.{record.niche_format}", batch.niche_image, record.niche_px),
        ):
            wanted = np.asarray(Image.open(io.BytesIO(members[number][f"{key}.{kind}"])).convert("RGB"), int)
            found = image[row, :side, :side].numpy().astype(int)
            assert np.abs(found - wanted).max() <= (0 if kind.endswith("png") else 3)  # two JPEG decoders


@pytest.mark.parametrize(
    "niche", [NicheConfig(k=0), NicheConfig(k=3), NicheConfig(k=None, rings=1), NicheConfig(k=6, leave_target_out=True)]
)
def test_niche_counts_are_the_members_sums(shards: ShardSet, niche: NicheConfig) -> None:
    plan = plan_of(shards)
    batch = BatchReader(shards.slides, niche).read(plan.slide[-1], plan.rank[-1], epoch=0)
    genes = len(shards.genes)
    dense = np.zeros((len(batch), genes), int)
    np.add.at(
        dense, (batch.niche_counts.row.numpy(), batch.niche_counts.gene.numpy()), batch.niche_counts.count.numpy()
    )
    own = np.zeros_like(dense)
    np.add.at(own, (batch.spot_counts.row.numpy(), batch.spot_counts.gene.numpy()), batch.spot_counts.count.numpy())
    checked = 0
    for row in np.flatnonzero(batch.valid.numpy()):
        slide = shards.slides[int(batch.slide[row])]
        data = anndata.read_h5ad(shards.folder / slide.record.h5ad)
        counts = np.zeros((len(data), genes), int)
        counts[:, data.var["gene_index"].to_numpy()] = data.X.toarray()
        spot = int(batch.spot[row])
        members = read_tar(shards, slide.record.number)
        key = make_sample_key(slide.record.number, spot)
        neighbors = np.load(io.BytesIO(members[f"{key}.neighbors.npy"]))
        ring = json.loads(members[f"{key}.meta.json"])["rings"][0]
        chosen = neighbors[:ring][: niche.k].tolist() + ([] if niche.leave_target_out else [spot])
        np.testing.assert_array_equal(dense[row], counts[chosen].sum(axis=0))
        np.testing.assert_array_equal(own[row], counts[spot])
        checked += 1
    assert checked > 0


def test_excluded_spots_cover_every_pair_of_niches_that_share_a_member(shards: ShardSet) -> None:
    niche = NicheConfig(k=6, rings=1)
    slide = shards.slides[min(shards.slides)]
    ranks = np.arange(len(slide))
    reader = BatchReader({slide.record.number: slide}, niche)
    batch = reader.read(np.full(len(slide), slide.record.number), ranks, epoch=0)
    members = read_tar(shards, slide.record.number)
    sets = {}
    for spot in range(len(slide)):
        key = make_sample_key(slide.record.number, spot)
        neighbors = np.load(io.BytesIO(members[f"{key}.neighbors.npy"]))
        meta = json.loads(members[f"{key}.meta.json"])
        sets[spot] = {spot, *niche.members(neighbors, meta["rings"]).tolist()}
    for row in range(len(batch)):
        spot = int(batch.spot[row])
        away = set(batch.excluded[row].tolist())
        sharing = {other for other in sets if other != spot and sets[other] & sets[spot]}
        assert sharing
        assert sharing <= away


def test_padding_rows_are_marked_and_show_what_valid_rows_show(shards: ShardSet) -> None:
    plan = plan_of(shards)
    batch = BatchReader(shards.slides, NicheConfig()).read(plan.slide[-1], plan.rank[-1], epoch=0)
    padding = ~batch.valid
    assert padding.sum() == (plan.slide[-1] < 0).sum() > 0
    assert (batch.slide[padding] == -1).all()
    shown = {picture.numpy().tobytes() for picture in batch.spot_image[~padding]}
    assert {picture.numpy().tobytes() for picture in batch.spot_image[padding]} <= shown
    assert batch.spot_image[padding].any()
    assert not np.isin(batch.spot_counts.row.numpy(), np.flatnonzero(padding.numpy())).any()


def test_rings_beyond_the_stored_ones_are_refused(shards: ShardSet) -> None:
    plan = plan_of(shards)
    with pytest.raises(ConfigError, match="rings; the shards hold 4"):
        BatchReader(shards.slides, NicheConfig(k=3, rings=3)).read(plan.slide[0], plan.rank[0], epoch=0)


def test_a_loader_resumes_at_any_batch_and_raises_what_the_reading_thread_raised(shards: ShardSet) -> None:
    plan = plan_of(shards)
    assert len(plan) >= 3
    reader = BatchReader(shards.slides, NicheConfig())
    whole = [(batch.slide.tolist(), batch.spot.tolist()) for batch in BatchLoader(reader, lambda epoch: plan)]
    assert len(whole) == len(plan)
    for position in range(len(plan)):
        loader = BatchLoader(reader, lambda epoch: plan)
        loader.load_state_dict({"epoch": 0, "position": position, "batches": len(plan)})
        loader.set_epoch(0)
        rest = [(batch.slide.tolist(), batch.spot.tolist()) for batch in loader]
        assert rest == whole[position:]
    other = BatchLoader(reader, lambda epoch: plan)
    with pytest.raises(ConfigError, match="7 global batches"):
        other.load_state_dict({"epoch": 0, "position": 1, "batches": 7})

    def broken(epoch: int) -> Plan:
        return Plan(np.where(plan.slide < 0, plan.slide, 77), plan.rank)  # a slide that the reader was not given

    with pytest.raises(KeyError, match="77"):
        list(BatchLoader(reader, broken))


def test_a_run_of_neighbouring_places_is_one_read(shards: ShardSet, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of(shards)
    slide, rank = plan.slide[0], plan.rank[0]
    runs = 1 + int(((np.diff(slide) != 0) | (np.diff(rank) != 1)).sum())
    assert runs < len(slide) / 2
    lengths, read = [], os.preadv
    monkeypatch.setattr(os, "preadv", lambda *given: lengths.append(read(*given)) or lengths[-1])
    BatchReader(shards.slides, NicheConfig()).read(slide, rank, epoch=0)
    assert len(lengths) == runs


@pytest.mark.parametrize(
    ("weights", "even_depth"),
    [
        *(("ring", False), ("distance", False), (0.3, False), ((0.8, 0.1), False)),
        *(("uniform", True), ("ring", True), (0.3, True)),
    ],
)
@pytest.mark.parametrize("leave_target_out", [False, True])
def test_weighted_niche_counts(
    shards: ShardSet, weights: str | float | tuple[float, ...], even_depth: bool, leave_target_out: bool
) -> None:
    """Sixteenths of 1 / (1 + ring), 1 / (1 + distance in pitches), .3^ring or .8 and .1, by the h5ad's positions."""
    niche = NicheConfig(None, rings=2, weights=weights, leave_target_out=leave_target_out, even_depth=even_depth)
    slide = shards.slides[0]
    batch = BatchReader(shards.slides, niche).read(np.zeros(6, np.int64), np.arange(6), epoch=0)
    data = anndata.read_h5ad(shards.folder / slide.record.h5ad)
    counts, genes = data.X.toarray().astype(int), data.var["gene_index"].to_numpy()
    xy = data.obsm["spatial"] * slide.record.um_per_px / slide.record.pitch_um
    found = np.zeros((6, len(shards.genes)), int)
    row_gene, count = (
        (batch.niche_counts.row.numpy(), batch.niche_counts.gene.numpy()),
        batch.niche_counts.count.numpy(),
    )
    np.add.at(found, row_gene, count)
    for row, spot in enumerate(batch.spot.tolist()):
        apart = np.linalg.norm(xy - xy[spot], axis=1)
        ring = np.select([apart < 0.5, apart < 1.2, apart < 2.2], [0, 1, 2], default=99)
        given = np.array([1, 0.8, 0.1])[np.minimum(ring, 2)]
        share = {"ring": 1 / (1 + ring), "distance": 1 / (1 + apart), "uniform": 1 + 0 * ring, 0.3: 0.3**ring}.get(
            weights, given
        )
        weight = np.rint(16 * share) * (ring <= 2)
        weight[spot] = 0 if leave_target_out else 16
        if even_depth:
            depth, members = counts.sum(axis=1), weight > 0
            share = np.minimum(depth[members].mean() / np.maximum(depth[members], 1), 4)
            weight[members] = np.maximum(np.rint(4 * weight[members] * share), 1)
        np.testing.assert_array_equal(found[row][genes], weight.astype(int) @ counts)


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ("rng", "niche.weights is 'rng'; known: uniform, ring, distance, a number"),
        (1.0, "niche.weights is 1.0; known"),
        ((0.5, 0.0), r"niche.weights is \(0.5, 0.0\); known"),
        ((0.5, "a"), r"niche.weights is \(0.5, 'a'\); known"),
        ([0.5, 0.2], r"niche.weights is \[0.5, 0.2\]; known: .*or a tuple of one for each ring"),
        ((0.5,), r"niche.weights is \(0.5,\), of 1 rings; niche.rings is 2"),
    ],
)
def test_unknown_weights(weights: object, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        NicheConfig(None, rings=2, weights=weights)


def test_evened_depth() -> None:
    """A niche of a deep, a middling and an empty spot, then one alone: mean depth over own, at most 4; in quarters."""
    weights, used = np.array([16, 8, 5, 16]), np.array([3, 1])
    np.testing.assert_array_equal(normalise_depth(weights, np.array([6000, 3000, 0, 7]), used), [32, 32, 80, 64])
    assert len(normalise_depth(weights[:0], weights[:0], used * 0)) == 0


def test_ranks_read_the_slices_of_the_same_batches(shards: ShardSet) -> None:
    plan = plan_of(shards)
    reader = BatchReader(shards.slides, NicheConfig())
    whole = list(BatchLoader(reader, lambda epoch: plan))
    parts = [list(BatchLoader(reader, lambda epoch: plan, process, 2)) for process in (0, 1)]
    for number, batch in enumerate(whole):
        joined = np.concatenate([part[number].spot.numpy() for part in parts])
        np.testing.assert_array_equal(joined, batch.spot.numpy())
