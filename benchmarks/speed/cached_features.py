"""What a training step costs with a frozen encoder's features from a cache: beside the encoder, and beside no encoder.

    python -m benchmarks.speed.cached_features --shards shards/demo-1    (four minutes on one core)

The shards are a simulated cohort's, as `make demo` builds seed 0; the committed figures are of development seed 1.

Steps of configs/demo.yaml, its niche encoder a frozen ViT-S/16 at 96 px with random weights: reading, transform,
forward and backward pass, loss, AdamW. Three arms take the same batches in turn, one thread, and share weights and
optimiser: `encoder` reads and encodes the niche pictures, `cached` reads their features from HDF5, `absent` has
features in memory and neither pictures nor files: what the trained parts cost alone. CPU seconds a step, the median
over the steps.
Goal: cached at most 1.05 of absent.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.machine import describe_machine, write_results
from stalign_pl.batch.buffers import BatchBuffers
from stalign_pl.batch.features import CachedFeatures
from stalign_pl.batch.spot_batch import SpotBatch
from stalign_pl.cli.from_config import ConfiguredParts
from stalign_pl.data.epoch.plan import plan_training
from stalign_pl.data.feature_making import FeatureMaker
from stalign_pl.data.features.cache import FeatureCache, FeatureRows
from stalign_pl.data.reading.reader import BatchReader
from stalign_pl.models import find_cacheable_streams, fingerprint_encoder
from stalign_pl.training.optimizer import make_adamw

STREAM = "niche_image"
VIEWS = 2
GOAL = 1.05
ENCODER = "--model.model.init_args.niche_image.init_args"
PARTS = (
    *(f"{ENCODER}.name", "vit_small_patch16_224", f"{ENCODER}.trains", "none", "--data.niche_size", "96"),
    *("--data.train_patients", "[P01,P02,P03,P04]", "--data.val_patients", "[P07]", "--data.test_patients", "[P09]"),
)


class InMemory(FeatureRows):
    """Features of the right width, without a file."""

    def read(self, epoch: int, slide: np.ndarray, spot: np.ndarray, buffers: BatchBuffers) -> CachedFeatures:
        values = torch.zeros(len(slide), self.cache.widths[STREAM])
        return CachedFeatures(**{STREAM: values})


def arms(parts: ConfiguredParts, cache: FeatureCache) -> dict[str, BatchReader]:
    data = parts.datamodule
    rows = {"encoder": None, "cached": FeatureRows(cache, data.seed), "absent": InMemory(cache, data.seed)}
    draws = data.augmentation.draws(data.seed)
    return {
        name: BatchReader(data.train_slides, data.niche, draws, threads=1, features=of) for name, of in rows.items()
    }


def batches(parts: ConfiguredParts, epoch: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    data = parts.datamodule
    spots = {number: len(slide) for number, slide in data.train_slides.items()}
    plan = plan_training(spots, data.composition, data.seed, epoch)
    yield from zip(plan.slide, plan.rank, strict=True)


def step(parts: ConfiguredParts, batch: SpotBatch, optimizer: torch.optim.Optimizer) -> None:
    data, module = parts.datamodule, parts.model
    inputs = data.transform(batch, data.augmentation, data.seed, 0)
    optimizer.zero_grad()
    embeddings = module.model(inputs.model)
    module.objective(embeddings, inputs.ids).total.backward()
    optimizer.step()


def measure(parts: ConfiguredParts, folder: Path, steps: int) -> dict[str, object]:
    data, model = parts.datamodule, parts.model.model.train()
    streams = find_cacheable_streams(model)
    settings = data.feature_settings({name: fingerprint_encoder(stream) for name, stream in streams.items()})
    maker = FeatureMaker(data, streams, settings, folder, VIEWS, 64, torch.device("cpu"))
    started = time.process_time()
    for slide in data.train_slides.values():
        maker.make(slide, [STREAM], lambda spots: None)
    made = time.process_time() - started
    readers = arms(parts, FeatureCache(folder, settings, data.train_slides, data.train_slides))
    optimizer = make_adamw(parts.model, replace(parts.model.optimizer_config, lr=1e-4), False)
    taken: dict[str, list[float]] = {name: [] for name in readers}
    for number, (slide, rank) in enumerate(batches(parts, 0)):
        if number > steps:
            break
        for name, reader in readers.items():
            started = time.process_time()
            step(parts, reader.read(slide, rank, 0), optimizer)
            if number:  # the first one warms up
                taken[name].append(time.process_time() - started)
    spots = sum(map(len, data.train_slides.values()))
    return {
        "seconds": {name: statistics.median(values) for name, values in taken.items()},
        "steps": min(len(values) for values in taken.values()),
        "rows": data.composition.batch,
        "making_seconds_a_spot": made / spots / (1 + VIEWS),
        "bytes_a_spot_and_view": 4 * streams[STREAM].features(torch.zeros(1, 3, 96, 96)).shape[1],
    }


def table(found: dict) -> list[str]:
    seconds = found["seconds"]
    lines = ["| niche encoder | CPU s a step | of absent |", "|---|---|---|"]
    lines += [f"| {name} | {value:.3f} | {value / seconds['absent']:.3f} |" for name, value in seconds.items()]
    ratio = seconds["cached"] / seconds["absent"]
    return [
        *lines,
        "",
        f"- {found['rows']} spots a step, {found['steps']} steps an arm; cached at most {GOAL} of absent: "
        f"{'met' if ratio <= GOAL else 'MISSED'} ({ratio:.3f}); the encoder costs "
        f"{seconds['encoder'] / seconds['cached']:.1f} times the cached step",
        f"- making the cache: {found['making_seconds_a_spot']:.4f} CPU s a spot and view, "
        f"{found['bytes_a_spot_and_view']:,} bytes",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", required=True, help="shards/demo-0 of `make demo`")
    parser.add_argument("--config", default="configs/demo.yaml")
    parser.add_argument("--steps", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/cached_features"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    parts = ConfiguredParts(["--config", given.config, "--data.shards", given.shards, *PARTS])
    with tempfile.TemporaryDirectory() as folder:
        found = measure(parts, Path(folder), given.steps)
    lines = [*table(found), "", describe_machine("torch", "timm", "h5py")]
    write_results(given.out, lines, found)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
