"""From a config to a shard set: plan, then one independent, restartable job a slide, then the manifest.

A cluster builds one set by many tasks: each makes the same plan, builds its share of the slides and leaves the manifest
alone; a last build without a share finds them done and writes it.
"""

from __future__ import annotations

import csv
import json
import multiprocessing
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from data_prep.build.config import BuildConfig
from data_prep.build.duplicates import match_duplicates
from data_prep.build.plan import Plan, PlannedSlide, claim_folder, make_plan
from data_prep.build.slide_job import build_slide
from data_prep.build.state import SlideState, read_state, state_path
from data_prep.console import show_bar
from data_prep.shards.write import list_file_patterns
from data_prep.slide.curation import Exclusion, SetAside
from data_prep.slide.slide import SlideError
from stalign_pl.errors import ConfigError, ShardError
from stalign_pl.files import replace_file, sweep_temporary, write_json
from stalign_pl.shard_format import DUPLICATES, Manifest, SlideRecord, make_file_stem

EXCLUSIONS = "exclusions.json"


@dataclass(frozen=True)
class BuildReport:
    """How a build went.

    Attributes:
        manifest: what the set now holds; with a share, what the share does (and not on disk).
        reused: slides whose job had ended already.
        failed: slide -> why it could not be built.
        exclusions: what the curation, missing files and duplicates left out.
    """

    manifest: Manifest
    reused: tuple[str, ...]
    failed: dict[str, str]
    exclusions: tuple[Exclusion, ...]

    @property
    def left_out(self) -> dict[str, str]:
        """Slide -> reason, of the exclusions."""
        return {exclusion.slide: exclusion.reason for exclusion in self.exclusions}


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
        """The task's slides of a plan."""
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
    plan = make_plan(config, progress)
    claim_folder(out, plan)
    slides = plan.slides if share is None else share.of(plan.slides)
    states = {slide.number: state for slide in slides if (state := find_ended_state(out, slide)) is not None}
    reused = tuple(slide.job.name for slide in slides if slide.number in states)
    todo = [slide for slide in slides if slide.number not in states]
    outcomes = _run_jobs(todo, plan, out, workers)
    for state in show_bar(outcomes, "build", progress, total=len(slides), done=len(reused)):
        states[state.number] = state
    twins = find_duplicates(states) if share is None else {}
    if plan.curation.duplicates == "drop":
        states = mark_duplicates(out, plan, states, twins)
    manifest = Manifest(
        gene_table=plan.axis.table.digest(),
        genes=len(plan.axis.table),
        settings=plan.settings_to_json(),
        slides=tuple(read_record(out, state.slide) for _, state in sorted(states.items()) if state.status == "done"),
    )
    exclusions = (
        *plan.exclusions,
        *(_make_exclusion(state) for _, state in sorted(states.items()) if _is_left_out(state)),
    )
    if share is None:
        for state in plan.failed:
            state.write(out)
        sweep_temporary(out, "manifest.json", EXCLUSIONS, DUPLICATES, "plan.json", "genes.tsv", "panel-*.npy")
        write_json(out / EXCLUSIONS, [asdict(exclusion) for exclusion in exclusions])
        if twins and plan.curation.duplicates == "keep":
            write_duplicates(out, states, twins)
        manifest.write(out)
        for state in states.values():
            if state.status == "duplicate":
                remove_shard(out, state.slide)
    broken = (*plan.failed, *(state for state in states.values() if state.status == "failed"))
    failed = dict(sorted((state.slide, state.reason) for state in broken))
    return BuildReport(manifest, reused, failed, exclusions)


def find_ended_state(out: Path, slide: PlannedSlide) -> SlideState | None:
    """The state of a slide whose job need not run again, else None.

    Such a job ended without an error after its inputs last changed, and its files are there in full.
    """
    state = read_state(out, slide.job.name)
    if state is None or state.status == "failed" or state.number != slide.number:
        return None
    try:
        inputs = (*slide.job.files(), *((slide.facts.labels,) if slide.facts.labels else ()))
        if max(file.stat().st_mtime_ns for file in inputs) > state_path(out, state.slide).stat().st_mtime_ns:
            return None
        if state.status != "done":
            return state
        record = read_record(out, state.slide)
        whole = all((out / name).stat().st_size == described["bytes"] for name, described in record.files.items())
    except (ShardError, SlideError, ValueError, OSError):
        return None  # whatever is wrong is named when the slide is built again
    return state if whole and record.number == slide.number else None


def read_record(out: Path, slide: str) -> SlideRecord:
    """Read a built slide's record.

    Raises:
        ShardError, OSError, ValueError: there is none, or none of this version.
    """
    path = out / f"{make_file_stem(slide)}.json"
    return SlideRecord.from_json(json.loads(path.read_text()), path)


def find_duplicates(states: dict[int, SlideState]) -> dict[int, tuple[int, float]]:
    """Find slide number -> (number of the first slide with the same counts, share in common)."""
    sketches = {number: np.array(state.sketch, np.uint64) for number, state in states.items() if state.sketch}
    return match_duplicates(sketches)


def write_duplicates(out: Path, states: dict[int, SlideState], twins: dict[int, tuple[int, float]]) -> None:
    """List the sections that a set holds under two names, so that `splits` never tears them apart."""
    with replace_file(out / DUPLICATES) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        file.write("slide,duplicate_of\n")
        rows = csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\n")
        rows.writerows((states[number].slide, states[kept].slide) for number, (kept, _) in twins.items())


def mark_duplicates(
    out: Path, plan: Plan, states: dict[int, SlideState], twins: dict[int, tuple[int, float]]
) -> dict[int, SlideState]:
    """Mark all but the first of several slides with the same counts as duplicates; returns all states."""
    names = {slide.number: slide.job.name for slide in plan.slides}
    for number, (kept, share) in twins.items():
        reason = f"has {share:.0%} of its counts in common with {names[kept]!r}, which stands for both"
        marked = replace(states[number], status="duplicate", rule="duplicates", reason=reason)
        if marked != states[number]:
            marked.write(out)
        states = {**states, number: marked}
    return states


def remove_shard(out: Path, slide: str) -> None:
    """Remove a duplicate's files, the record first; panels stay, since slides share them."""
    for pattern in list_file_patterns(make_file_stem(slide)):
        for path in sorted(out.glob(pattern)):
            path.unlink(missing_ok=True)


def _is_left_out(state: SlideState) -> bool:
    return state.status in ("set_aside", "duplicate")


def _make_exclusion(state: SlideState) -> Exclusion:
    stage = "duplicate" if state.status == "duplicate" else "build"
    return Exclusion(state.slide, stage, state.rule, state.reason)


def _build_one(out: Path, plan: Plan, planned: PlannedSlide) -> SlideState:
    """Build a slide and write its state.

    An unexpected error is reported with its traceback and does not stop the build of the other slides.
    """
    start = time.monotonic()
    state = SlideState(planned.job.name, planned.number, "failed")
    try:
        record, sketch = build_slide(out, plan, planned)
        size = sum(described["bytes"] for described in record.files.values())
        state = replace(state, status="done", bytes=size, spots=record.spots, sketch=tuple(sketch.tolist()))
    except SetAside as why:
        state = replace(state, status="set_aside", rule=why.rule, reason=why.what)
    except SlideError as error:
        state = replace(state, reason=error.what)
    except Exception:  # noqa: BLE001 - kept with its traceback
        state = replace(state, reason=f"unexpected error, perhaps of this program:\n{traceback.format_exc()}")
    state = replace(state, seconds=round(time.monotonic() - start, 3))
    state.write(out)
    return state


_PLAN: Plan | None = None
"""The plan in a worker process, sent once and not with every slide."""


def _start_worker(plan: Plan) -> None:
    global _PLAN
    _PLAN = plan


def _build_one_in_worker(out: Path, place: int) -> SlideState:
    assert _PLAN is not None
    return _build_one(out, _PLAN, _PLAN.slides[place])


def _run_jobs(todo: list[PlannedSlide], plan: Plan, out: Path, workers: int) -> Iterator[SlideState]:
    if workers == 1 or len(todo) <= 1:
        for slide in todo:
            yield _build_one(out, plan, slide)
        return
    places = {slide.number: place for place, slide in enumerate(plan.slides)}
    unfinished: list[PlannedSlide] = []
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(todo)), context, initializer=_start_worker, initargs=(plan,)) as pool:
        waiting: dict[Future[SlideState], PlannedSlide] = {
            pool.submit(_build_one_in_worker, out, places[slide.number]): slide for slide in todo
        }
        for future in as_completed(waiting):
            try:
                yield future.result()
            except BrokenProcessPool:
                unfinished.append(waiting[future])
    for slide in unfinished:  # a process died over one of them; which one shows when each has a process to itself
        with ProcessPoolExecutor(1, context, initializer=_start_worker, initargs=(plan,)) as pool:
            try:
                yield pool.submit(_build_one_in_worker, out, places[slide.number]).result()
            except BrokenProcessPool:
                reason = "the process that built it died: out of memory, or a damaged file"
                state = SlideState(slide.job.name, slide.number, "failed", reason=reason)
                state.write(out)
                yield state
