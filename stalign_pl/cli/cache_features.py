"""Run the frozen encoders of a config's model once over its slides and save their features for training.

Each file records the settings that its features depend on. Training refuses features made with other settings, and this
command makes only those that are missing, stale or damaged: if it was stopped, run the same command again. With
--views N the training slides get N augmented views, of which training reads one an epoch, in turn; without it a cached
stream is not augmented.

examples:
  python -m stalign_pl cache-features --config configs/paper.yaml --out features/paper
  python -m stalign_pl cache-features --config configs/paper.yaml --out features/paper --views 8 --devices 4
  python -m stalign_pl cache-features --config configs/paper.yaml --out features/paper --task 3 --tasks 16
  python -m stalign_pl fit --config configs/paper.yaml --data.features features/paper

The third example is task 3 of the 16 tasks 0 to 15. Each makes its share of the slides; all may run at once and write
into one folder. Further options are those of `fit`, such as --data.shards FOLDER. Features are computed in float32.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from stalign_pl.batch.features import STREAMS
from stalign_pl.errors import ConfigError

DEVICES = ("auto", "cpu", "cuda")


def main(arguments: list[str]) -> int:
    """Make the files, in this process or in one process a device, and print what was made."""
    given, of_fit = _build_parser().parse_known_args(arguments)
    _check_options(given)
    if given.devices > 1:
        return _run_tasks(arguments, given)
    return _make_features(given, of_fit)


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m stalign_pl cache-features",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )

    def split_names(text: str) -> list[str]:
        return [name for name in text.split(",") if name]

    parser.add_argument(
        "--config", action="append", default=[], metavar="FILE", help="a config of `fit`; later ones win"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the features (default: data.features)")
    parser.add_argument("--streams", type=split_names, metavar="A,B", help="only these (default: all frozen ones)")
    parser.add_argument(
        "--views", type=int, default=0, metavar="N", help="augmented views of a training slide (default 0)"
    )
    parser.add_argument("--batch", type=int, default=256, metavar="N", help="spots encoded at once (default 256)")
    parser.add_argument("--device", choices=DEVICES, default="auto", help="default auto: a GPU if there is one")
    parser.add_argument("--devices", type=int, default=1, metavar="N", help="processes here, one a GPU (default 1)")
    parser.add_argument("--task", type=int, metavar="I", help="make only share I of the slides (with --tasks N)")
    parser.add_argument("--tasks", type=int, metavar="N", help="number of tasks that make these features together")
    return parser


def _check_options(given: argparse.Namespace) -> None:
    """Raise ConfigError for options that are out of range or contradict each other."""
    for name, least in (("views", 0), ("batch", 1), ("devices", 1), ("tasks", 1)):
        if getattr(given, name) is not None and getattr(given, name) < least:
            raise ConfigError(f"--{name} is {getattr(given, name)}; it must be at least {least}")
    unknown = [name for name in given.streams or () if name not in STREAMS]
    if unknown or given.streams == []:
        raise ConfigError(f"--streams names {', '.join(unknown) or 'none'}; known: {', '.join(STREAMS)}")
    if (given.task is None) != (given.tasks is None):
        raise ConfigError("--task and --tasks go together: --task I --tasks N takes one of N shares of the slides")
    if given.task is not None and not 0 <= given.task < given.tasks:
        raise ConfigError(f"--task is {given.task}; with --tasks {given.tasks} it is 0 to {given.tasks - 1}")
    if given.task is not None and given.devices > 1:
        raise ConfigError("--devices starts tasks of its own: give either it, or --task and --tasks")


def _run_tasks(arguments: Sequence[str], given: argparse.Namespace) -> int:
    """Run one process a device, each with its share of the slides; 1 if one of them failed."""
    command = [sys.executable, "-m", "stalign_pl", "cache-features", *arguments, "--devices", "1"]
    tasks = [
        subprocess.Popen([*command, "--task", str(task), "--tasks", str(given.devices)])
        for task in range(given.devices)
    ]
    failed = [str(number) for number, task in enumerate(tasks) if task.wait() != 0]
    if failed:
        print(f"cache-features: tasks {', '.join(failed)} of {given.devices} failed", file=sys.stderr)
    return 1 if failed else 0


def _make_features(given: argparse.Namespace, of_fit: list[str]) -> int:
    """Make this task's features and print a line on them; options of `fit` in `of_fit`."""
    from tqdm import tqdm

    from stalign_pl.cli.from_config import ConfiguredParts
    from stalign_pl.data.feature_making import FeatureMaker, choose_share
    from stalign_pl.models import find_cacheable_streams, fingerprint_encoder

    configs = [word for path in given.config for word in ("--config", path)]
    parts = ConfiguredParts([*configs, *of_fit])
    data, model = parts.datamodule, parts.model.model.eval()
    out = given.out or data.features
    if out is None:
        raise ConfigError("no folder: give --out DIR, or a config with data.features")
    if out.exists() and not out.is_dir():
        raise ConfigError(f"the folder of the features, {out}, is a file")
    streams = _choose_streams(find_cacheable_streams(model), given.streams)
    settings = data.feature_settings({name: fingerprint_encoder(stream) for name, stream in streams.items()})
    device = _choose_device(given.device, given.task or 0)
    on_device = {name: stream.to(device) for name, stream in streams.items()}
    out.mkdir(parents=True, exist_ok=True)
    maker = FeatureMaker(data, on_device, settings, out, given.views, given.batch, torch.device(device))
    slides = choose_share(list(data.used_slides.values()), given.task or 0, given.tasks or 1)
    wanted = {slide.record.number: maker.missing(slide, print) for slide in slides}
    todo = [slide for slide in slides if wanted[slide.record.number]]
    total = sum(len(slide) * (1 + maker.views_of(slide)) for slide in todo)
    damaged = 0
    hidden = not sys.stderr.isatty()
    task = "" if given.task is None else f"task {given.task} of {given.tasks}: "
    with tqdm(desc=str(out), total=total, unit="spot", disable=hidden, position=given.task or 0) as bar:
        for done, slide in enumerate(todo, start=1):
            damaged += maker.make(slide, wanted[slide.record.number], bar.update)
            if hidden:  # a job's log takes lines, not a bar
                print(f"{task}{slide.record.name}, {len(slide):,} spots: {done} of {len(todo)} slides", flush=True)
    print(
        f"{task}{out}: {', '.join(streams)} of {len(slides)} slides ({len(slides) - len(todo)} were there), "
        f"{sum(map(len, todo)):,} spots encoded, {given.views} augmented views"
        + (f"; {damaged} samples are damaged, and marked" if damaged else "")
    )
    return 0


def _choose_streams(cacheable: Mapping[str, nn.Module], asked: list[str] | None) -> dict[str, nn.Module]:
    """Choose the streams to cache, all or those asked for; raise ConfigError if there is none, or one is trained."""
    trained = [name for name in asked or () if name not in cacheable]
    if trained or not cacheable:
        what = f"--streams names {', '.join(trained)}, which" if trained else "the config's model"
        raise ConfigError(
            f"{what} has no frozen encoder whose features could be cached. Frozen here: "
            f"{', '.join(cacheable) or 'none'}; an image stream is frozen by trains: none"
        )
    return {name: stream for name, stream in cacheable.items() if asked is None or name in asked}


def _choose_device(asked: str, task: int) -> str:
    """Choose a task's device; tasks take the GPUs in turn."""
    found = torch.cuda.device_count()
    if asked == "cuda" and not found:
        raise ConfigError("--device cuda, and torch sees no GPU")
    return "cpu" if asked == "cpu" or not found else f"cuda:{task % found}"
