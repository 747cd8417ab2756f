"""From a config to a shard set: plan, then one independent, restartable job a slide, then the manifest.

A cluster builds one set by many tasks: each makes the same plan, builds its share of the slides and leaves the manifest
alone; a last build without a share finds them done and writes it.
"""

from __future__ import annotations

import json
import multiprocessing
import traceback
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from data_prep.config import BuildConfig
from data_prep.plan import Plan, PlannedSlide, make_plan, settle
from data_prep.shards import write_slide
from data_prep.slide import SlideError
from stalign_pl.errors import ConfigError, ShardError
from stalign_pl.shard_format import Manifest, SlideRecord, file_stem


@dataclass(frozen=True)
class BuildReport:
    """How a build went.

    Attributes:
        manifest: what the set now holds; with a share, what the share does (and not on disk).
        reused: slides that were there already.
        failed: slide -> why it could not be built.
        left_out: slide -> why it is none (no image, ...).
    """

    manifest: Manifest
    reused: tuple[str, ...]
    failed: dict[str, str]
    left_out: dict[str, str]


@dataclass(frozen=True)
class Share:
    """One task's part of a build: the plan's slides number `task`, `task + tasks`, ...

    Raises:
        ConfigError: a task that is not in 0 .. tasks - 1.
    """

    task: int = 0
    tasks: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.task < self.tasks:
            raise ConfigError(f"task is {self.task} of {self.tasks} tasks; 0 to {max(self.tasks, 1) - 1} is wanted")

    def of(self, slides: tuple[PlannedSlide, ...]) -> tuple[PlannedSlide, ...]:
        return slides[self.task :: self.tasks]


def build(
    config: BuildConfig, out: Path, workers: int = 1, progress: bool = False, share: Share | None = None
) -> BuildReport:
    """Build a shard set, or finish one that was begun by the same plan. The result does not depend on `workers`.

    A slide that cannot be built does not stop the others; the manifest holds the good ones, by number.

    Args:
        workers: processes; 1 works in this one.
        progress: show a bar of slides on stderr.
        share: build only these slides and write no manifest, so that tasks may run at once into one folder; None
            builds all.

    Raises:
        ConfigError: nothing to build, names that clash or do not exist, fewer than one worker.
        ShardError: `out` holds a set of another plan.
    """
    if workers < 1:
        raise ConfigError(f"workers is {workers}; 1 or more is wanted")
    plan = make_plan(config)
    settle(out, plan)
    slides = plan.slides if share is None else share.of(plan.slides)
    records: dict[int, SlideRecord] = {}
    for slide in slides:
        record = finished(out, slide)
        if record is not None:
            records[slide.number] = record
    reused = tuple(record.name for record in records.values())
    failed = dict(plan.failed)
    todo = [slide for slide in slides if slide.number not in records]
    with _bar(len(slides), len(reused), progress) as bar:
        for slide, outcome in _outcomes(todo, plan, out, workers):
            if isinstance(outcome, SlideRecord):
                records[slide.number] = outcome
            else:
                failed[slide.job.name] = outcome
            if bar is not None:
                bar.update()
    manifest = Manifest(
        gene_table=plan.axis.table.digest(),
        genes=len(plan.axis.table),
        settings=plan.described()["settings"],
        slides=tuple(records[number] for number in sorted(records)),
    )
    if share is None:
        manifest.write(out)
    return BuildReport(manifest, reused, dict(sorted(failed.items())), dict(sorted(plan.left_out.items())))


def finished(out: Path, slide: PlannedSlide) -> SlideRecord | None:
    """The slide's record if its files are there in full and none of its inputs is newer; else None: build it again."""
    path = out / f"{file_stem(slide.job.name)}.json"
    if not path.is_file():
        return None
    try:
        record = SlideRecord.from_json(json.loads(path.read_text()), path)
        inputs = (*slide.job.files(), *((slide.facts.labels,) if slide.facts.labels else ()))
        newest = max(file.stat().st_mtime_ns for file in inputs)
    except (ShardError, SlideError, json.JSONDecodeError, OSError):
        return None  # whatever is wrong is named when the slide is built again
    whole = all(
        (out / name).is_file() and (out / name).stat().st_size == described["bytes"]
        for name, described in record.files.items()
    )
    return record if whole and newest <= path.stat().st_mtime_ns and record.number == slide.number else None


def build_slide(out: Path, plan: Plan, slide: PlannedSlide) -> SlideRecord:
    """Read one slide and write its shard.

    Raises:
        SlideError: the slide cannot be used.
    """
    read = slide.facts.apply(slide.job.read())
    if plan.slide_as_patient and not read.patient:
        read = replace(read, patient=read.name)
    return write_slide(out, slide.number, read, plan.axis, plan.panels[slide.panel], plan.settings, slide.crops)


def _attempt(out: Path, plan: Plan, slide: PlannedSlide) -> SlideRecord | str:
    """The record, or the reason why there is none. What nobody foresaw is reported with its traceback, and the build
    goes on: one odd slide of a thousand should not cost a night."""
    try:
        return build_slide(out, plan, slide)
    except SlideError as error:
        return error.what
    except Exception:
        return f"unexpected error, perhaps of this program:\n{traceback.format_exc()}"


_PLAN: Plan | None = None
"""The plan in a worker process, sent once and not with every slide."""


def _start_worker(plan: Plan) -> None:
    global _PLAN
    _PLAN = plan


def _attempt_in_worker(out: Path, place: int) -> SlideRecord | str:
    assert _PLAN is not None
    return _attempt(out, _PLAN, _PLAN.slides[place])


def _outcomes(
    todo: list[PlannedSlide], plan: Plan, out: Path, workers: int
) -> Iterator[tuple[PlannedSlide, SlideRecord | str]]:
    if workers == 1 or len(todo) <= 1:
        for slide in todo:
            yield slide, _attempt(out, plan, slide)
        return
    places = {slide.number: place for place, slide in enumerate(plan.slides)}
    unfinished: list[PlannedSlide] = []
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(todo)), context, initializer=_start_worker, initargs=(plan,)) as pool:
        waiting: dict[Future[SlideRecord | str], PlannedSlide] = {
            pool.submit(_attempt_in_worker, out, places[slide.number]): slide for slide in todo
        }
        for future in as_completed(waiting):
            try:
                yield waiting[future], future.result()
            except BrokenProcessPool:
                unfinished.append(waiting[future])
    for slide in unfinished:  # a process died over one of them; which one shows when each has a process to itself
        with ProcessPoolExecutor(1, context, initializer=_start_worker, initargs=(plan,)) as pool:
            try:
                yield slide, pool.submit(_attempt_in_worker, out, places[slide.number]).result()
            except BrokenProcessPool:
                yield slide, "the process that built it died: out of memory, or a damaged file"


def _bar(total: int, done: int, progress: bool):
    if not progress:
        return nullcontext()
    from tqdm import tqdm

    return tqdm(total=total, initial=done, unit="slide", desc="build")
