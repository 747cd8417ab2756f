"""The order of an epoch: a pure function of (slide sizes, seed, epoch, composition). Ranks take slices of its batches.

A global batch is about S slides x M spots. In a batch drawn in proportion from a real corpus nearly all negatives come
from other slides, and stain alone tells those apart; so a batch takes M spots of each of S slides.

A slide's spots, in the order of its tar, are cut into short runs at an offset that moves with the epoch; the runs are
shuffled and dealt into blocks of M. The k-th of a slide's K blocks gets position (k + u) / K, u drawn a slide and
epoch; the blocks of all slides, sorted by position, form one stream that is cut every S * M spots. So every spot comes
once an epoch, every batch spans about S slides, only the last batch is padded, and reading stays close to sequential.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stalign_pl.data.shards.shard_set import SlideShard
from stalign_pl.errors import ConfigError
from stalign_pl.files import replace_file

PADDING = -1


@dataclass(frozen=True)
class Composition:
    """Composition of a global batch.

    Attributes:
        slides: S, slides a global batch.
        spots: M, spots of each.
        run: spots read in one go; shorter runs mix better, longer ones read faster.
    """

    slides: int = 16
    spots: int = 64
    run: int = 8

    def __post_init__(self) -> None:
        for name in ("slides", "spots", "run"):
            if getattr(self, name) < 1:
                raise ConfigError(f"composition.{name} is {getattr(self, name)}; it must be at least 1")

    @property
    def batch(self) -> int:
        """Rows of a global batch."""
        return self.slides * self.spots


@dataclass(frozen=True)
class Plan:
    """The batches of one epoch.

    Attributes:
        slide: int32 [T, B], slide numbers; PADDING in the rows that pad the last batch.
        rank: int32 [T, B], the spot's place in its slide's tar order (not the spot index).
    """

    slide: np.ndarray
    rank: np.ndarray

    def __len__(self) -> int:
        return len(self.slide)

    def rows_of(self, process: int, processes: int) -> slice:
        """The rows of each global batch that a process takes.

        Args:
            process: its rank.
            processes: number of processes.

        Raises:
            ConfigError: the global batch does not divide by the number of processes.
        """
        local = divide_rows(self.slide.shape[1], processes)
        return slice(process * local, (process + 1) * local)


def divide_rows(batch: int, processes: int) -> int:
    """The number of rows that each process takes of a global batch.

    Args:
        batch: rows of a global batch.
        processes: number of processes.

    Raises:
        ConfigError: the global batch does not divide by the number of processes.
    """
    if batch % processes:
        below, above = batch // processes * processes, (batch // processes + 1) * processes
        raise ConfigError(
            f"a global batch of {batch} spots does not divide by {processes} processes; "
            f"nearest that do: {below or above}, {above} (data.composition.slides x data.composition.spots)"
        )
    return batch // processes


def _shuffle_runs(spots: int, run: int, random: np.random.Generator) -> np.ndarray:
    """Order one slide's places: cut into runs at a drawn offset, the runs shuffled. int64 [spots]."""
    offset = int(random.integers(run))
    places = np.arange(spots)
    run_of = (places + offset) // run
    priority = random.permutation(int(run_of[-1]) + 1)
    return places[np.argsort(priority[run_of], kind="stable")]


def _number_blocks(spots: int, size: int, short: int) -> np.ndarray:
    """Number the blocks of a slide's spots: all blocks are full but the one numbered `short`. int64 [spots].

    The short one is drawn: were it always the last, the epoch's last batches would be made of remainders, and span
    twice as many slides as the others.
    """
    blocks = -(-spots // size)
    sizes = np.full(blocks, size)
    sizes[short] = spots - size * (blocks - 1)
    return np.repeat(np.arange(blocks), sizes)


def _cut(slide: np.ndarray, rank: np.ndarray, batch: int) -> Plan:
    """Cut a stream of spots into batches; pads the last one."""
    batches = -(-len(slide) // batch)
    padding = batches * batch - len(slide)
    padded = [np.concatenate([column, np.full(padding, PADDING)]).astype(np.int32) for column in (slide, rank)]
    return Plan(*(column.reshape(batches, batch) for column in padded))


def plan_training(spots: Mapping[int, int], composition: Composition, seed: int, epoch: int) -> Plan:
    """Plan one training epoch.

    Args:
        spots: slide number -> number of spots.
        composition: of a global batch.
        seed: of the run.
        epoch: 0 or more.

    Raises:
        ConfigError: no slide.
    """
    if not spots:
        raise ConfigError("no slide to train on: the training patients' list selects none")
    slides, ranks, positions = [], [], []
    for number in sorted(spots):
        random = np.random.default_rng([seed, epoch, number])
        order = _shuffle_runs(spots[number], composition.run, random)
        blocks = -(-len(order) // composition.spots)
        block = _number_blocks(len(order), composition.spots, int(random.integers(blocks)))
        slides.append(np.full(len(order), number))
        ranks.append(order)
        positions.append((block + random.random()) / blocks)
    stream = np.argsort(np.concatenate(positions), kind="stable")
    return _cut(np.concatenate(slides)[stream], np.concatenate(ranks)[stream], composition.batch)


def share_ranks(spots: Mapping[int, int], most: int) -> dict[int, np.ndarray]:
    """Take the same share of every slide's spots: the first of its seeded random order.

    Args:
        spots: slide number -> number of spots.
        most: spots that are taken of all slides together, at most.

    Returns:
        Slide number -> int64 [n], places in the slide's tar order.
    """
    share = min(1.0, most / sum(spots.values()))
    return {number: np.arange(int(size * share)) for number, size in spots.items()}


def plan_reading(ranks: Mapping[int, np.ndarray], batch: int) -> Plan:
    """Plan one pass in order over the given places of each slide: for evaluation and prediction.

    Args:
        ranks: slide number -> int [n], places in the slide's tar order.
        batch: rows of a global batch.

    Raises:
        ConfigError: no spot.
    """
    numbers = sorted(number for number in ranks if len(ranks[number]))
    if not numbers:
        raise ConfigError("no spot to evaluate: the patients' list selects none")
    slide = np.concatenate([np.full(len(ranks[number]), number) for number in numbers])
    return _cut(slide, np.concatenate([np.sort(ranks[number]) for number in numbers]), batch)


def write_rows(path: Path, plan: Plan, slides: Mapping[int, SlideShard]) -> None:
    """Write batch, row, slide and spot of every row that is a spot, as CSV."""
    with replace_file(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("batch", "row", "slide", "spot"))
        for batch, (numbers, ranks) in enumerate(zip(plan.slide.tolist(), plan.rank.tolist(), strict=True)):
            for row, (number, rank) in enumerate(zip(numbers, ranks, strict=True)):
                if number != PADDING:
                    shard = slides[number]
                    writer.writerow((batch, row, shard.record.name, int(shard.spot_of_rank[rank])))
    print(f"wrote {path}")
